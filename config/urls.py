from __future__ import annotations

from axes.admin import AccessAttemptAdmin
from axes.models import AccessAttempt
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.views import LogoutView, PasswordChangeDoneView, PasswordChangeView
from django.shortcuts import redirect
from django.templatetags.static import static
from django.urls import include, path
from django.utils.translation import gettext_lazy as _

from config.api import api
from config.home import home
from config.languages import choose_language
from config.log_ins import AdminLogInForm, LogInView

admin.site.site_header = "Sambung"
admin.site.site_title = "Sambung"
admin.site.index_title = _("Sessions, workers and KTP readings")
admin.site.login_form = AdminLogInForm
apps.get_app_config("axes").verbose_name = _("Wrong passwords")
# Shows who is locked out, and since when; deleting a row ends its lock.
admin.site.register(AccessAttempt, AccessAttemptAdmin)

urlpatterns = [
    path("", home, name="home"),
    # The admin and the API pages have no icon link, so browsers request this address.
    path("favicon.ico", lambda request: redirect(static("icon.svg"))),
    path("admin/", admin.site.urls),
    path("accounts/login/", LogInView.as_view(), name="login"),
    path("accounts/logout/", LogoutView.as_view(), name="logout"),
    path("accounts/password/", PasswordChangeView.as_view(), name="password_change"),
    path("accounts/password/done/", PasswordChangeDoneView.as_view(), name="password_change_done"),
    path("language/", choose_language, name="language"),
    path("ocr/", include("ocr.urls")),
    path("", api.urls),
]
