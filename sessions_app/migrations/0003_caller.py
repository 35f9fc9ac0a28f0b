"""Two columns with defaults in the database: no table is rewritten, and older processes may go on inserting."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ("sessions_app", "0002_content_filter_reason"),
    ]

    operations = [
        migrations.AddField(
            model_name="chatsession",
            name="caller",
            field=models.CharField(
                blank=True,
                db_default="",
                default="",
                help_text="Who asked: key:, address: or user:.",
                max_length=64,
            ),
        ),
        migrations.AddField(
            model_name="chatsession",
            name="is_named",
            field=models.BooleanField(
                db_default=True,
                default=True,
                help_text="Its caller knows it by an id of its own, and may come back for it.",
            ),
        ),
    ]
