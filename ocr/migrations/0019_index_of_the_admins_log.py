"""An erasure empties the texts of the admin's own log, which has no index to find the lines of a card by."""

from django.db import migrations

from sessions_app.migration_operations import AddForeignIndex


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("admin", "0003_logentry_add_action_flag_choices"),
        ("ocr", "0018_sandbox"),
    ]

    operations = [
        AddForeignIndex("admin.LogEntry", ("content_type_id", "object_id"), "admin_log_by_object"),
    ]
