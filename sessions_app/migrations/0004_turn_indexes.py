"""The indexes that claims read. PostgreSQL makes them while sessions are opened and run."""

from django.db import migrations, models

from sessions_app.migration_operations import AddIndexWithoutLock


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ("sessions_app", "0003_caller"),
    ]

    operations = [
        AddIndexWithoutLock(
            model_name="chatsession",
            index=models.Index(
                condition=models.Q(("state__in", ("queued", "running"))),
                fields=["state", "caller", "origin", "created_at", "workers_lost", "id"],
                name="session_turn",
            ),
        ),
        AddIndexWithoutLock(
            model_name="chatsession",
            index=models.Index(fields=["caller", "origin", "started_at"], name="session_caller_started"),
        ),
    ]
