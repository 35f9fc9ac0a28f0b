"""The admin with this project's site in the place of Django's."""

from __future__ import annotations

from django.contrib.admin.apps import AdminConfig


class SambungAdminConfig(AdminConfig):
    default_site = "config.admin_site.CarefulAdminSite"
