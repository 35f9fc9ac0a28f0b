"""Processes of an older release delete groups without knowing what was given to them."""

from django.db import migrations

from sessions_app.migration_operations import CascadeInDatabase


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("ocr", "0021_given_permissions"),
    ]

    operations = [
        CascadeInDatabase("ocr.GivenPermission", "group"),
    ]
