"""Django's user admin, with the fields that the server writes read-only."""

from __future__ import annotations

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import User

admin.site.unregister(User)


@admin.register(User)
class PeopleAdmin(UserAdmin[User]):
    # Django would show them as date and time inputs without labels.
    readonly_fields = ("last_login", "date_joined")
