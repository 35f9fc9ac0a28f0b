"""Processes of an older release delete readings and submissions without knowing these tables."""

from django.db import migrations

from sessions_app.migration_operations import CascadeInDatabase


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("ocr", "0019_index_of_the_admins_log"),
    ]

    operations = [
        CascadeInDatabase("ocr.KtpSession", "extraction"),
        CascadeInDatabase("ocr.KtpSubmittedImage", "extraction"),
        CascadeInDatabase("ocr.KtpCallback", "extraction"),
        CascadeInDatabase("ocr.KtpCallback", "submission"),
    ]
