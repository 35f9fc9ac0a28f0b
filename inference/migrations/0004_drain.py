from django.db import migrations, models


class Migration(migrations.Migration):
    # With a default in the database: workers of an older version go on writing their rows without it.

    dependencies = [
        ("inference", "0003_vision"),
    ]

    operations = [
        migrations.AlterModelOptions(
            name="modelworker",
            options={
                "ordering": ("-heartbeat_at",),
                "permissions": (
                    ("reload_modelworker", "Can have a model loaded again that could not be loaded"),
                    ("drain_modelworker", "Can have a worker take no more sessions, and take them again"),
                ),
                "verbose_name": "worker",
            },
        ),
        migrations.AddField(
            model_name="modelworker",
            name="drain",
            field=models.BooleanField(
                db_default=False,
                default=False,
                help_text="Somebody wants it to finish what it runs and to take no more; its next heartbeat sees it.",
            ),
        ),
    ]
