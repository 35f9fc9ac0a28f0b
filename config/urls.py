from __future__ import annotations

from axes.admin import AccessAttemptAdmin
from axes.models import AccessAttempt
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.views import LoginView
from django.shortcuts import redirect
from django.templatetags.static import static
from django.urls import include, path

from config.api import api
from config.home import home
from config.log_ins import AdminLogInForm, LogInForm

admin.site.site_header = "Sambung"
admin.site.site_title = "Sambung"
admin.site.index_title = "Sessions, workers and KTP readings"
admin.site.login_form = AdminLogInForm
apps.get_app_config("axes").verbose_name = "Wrong passwords"
# Who is locked out, and since when; to delete a line is to let somebody in again.
admin.site.register(AccessAttempt, AccessAttemptAdmin)

urlpatterns = [
    path("", home, name="home"),
    # The admin and the API pages name no icon of their own; browsers ask here.
    path("favicon.ico", lambda request: redirect(static("icon.svg"))),
    path("admin/", admin.site.urls),
    path("accounts/login/", LoginView.as_view(authentication_form=LogInForm), name="login"),
    path("accounts/", include("django.contrib.auth.urls")),
    path("ocr/", include("ocr.urls")),
    path("", api.urls),
]
