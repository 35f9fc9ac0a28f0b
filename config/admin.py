"""The users in the admin: Django's page, where what the server writes is not for people to change."""

from __future__ import annotations

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import User

admin.site.unregister(User)


@admin.register(User)
class PeopleAdmin(UserAdmin[User]):
    # They would be fields of a date and a time without labels.
    readonly_fields = ("last_login", "date_joined")
