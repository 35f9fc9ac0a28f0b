from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("inference", "0006_names_for_people"),
    ]

    operations = [
        migrations.AlterModelOptions(
            name="modelworker",
            options={
                "ordering": ("-heartbeat_at",),
                "permissions": (
                    ("reload_modelworker", "Can load the model again where loading has failed"),
                    ("drain_modelworker", "Can have a worker take no more sessions, and take them again"),
                ),
                "verbose_name": "worker",
                "verbose_name_plural": "workers",
            },
        ),
    ]
