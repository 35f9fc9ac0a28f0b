"""People of the admin, by what they may do."""

from __future__ import annotations

from django.contrib.auth.models import Permission, User
from django.test import Client


def signed_in(*codenames: str) -> Client:
    """The browser of a staff member with these permissions."""
    user = User.objects.create_user("-".join(("user", *codenames)), is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client = Client()
    client.force_login(user)
    return client
