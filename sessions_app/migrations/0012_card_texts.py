"""The index by which the sweep finds sessions of cards whose text was left. PostgreSQL makes it while sessions run."""

from django.db import migrations, models

from sessions_app.migration_operations import AddIndexWithoutLock


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ("sessions_app", "0009_sealed_columns"),
    ]

    operations = [
        AddIndexWithoutLock(
            model_name="chatsession",
            index=models.Index(
                condition=models.Q(("expired_at", None), ("origin", "ocr")),
                fields=["finished_at"],
                name="session_card_text",
            ),
        ),
    ]
