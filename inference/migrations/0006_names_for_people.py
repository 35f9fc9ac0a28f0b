"""What pages call the workers, as a name that can be translated. Changes no table."""

from __future__ import annotations

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("inference", "0005_load")]

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
                "verbose_name_plural": "workers",
            },
        ),
    ]
