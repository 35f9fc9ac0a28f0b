"""The admin's app config, with ``StrictAdminSite`` as the default site."""

from __future__ import annotations

from django.contrib.admin.apps import AdminConfig


class SambungAdminConfig(AdminConfig):
    default_site = "config.admin_site.StrictAdminSite"
