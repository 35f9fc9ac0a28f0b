"""A reading belongs to the caller of the API who sent it. Those before take the caller of their session, if it is kept."""

from django.db import migrations, models

from sessions_app.migration_operations import AddFieldOnce

BATCH = 500


def fill(apps, schema_editor):
    """In batches of their own transactions, by primary key: the table is in use meanwhile."""
    using = schema_editor.connection.alias
    readings = apps.get_model('ocr', 'KtpExtraction').objects.using(using)
    rows = readings.filter(caller='', uploaded_by=None, session__isnull=False).exclude(session__caller='')
    last = None
    while True:
        left = rows.filter(pk__gt=last) if last else rows
        batch = list(left.order_by('pk').values_list('pk', 'session__caller')[:BATCH])
        if not batch:
            return
        by_caller = {}
        for pk, caller in batch:
            by_caller.setdefault(caller, []).append(pk)
        for caller, pks in by_caller.items():
            readings.filter(pk__in=pks, caller='').update(caller=caller)
        last = batch[-1][0]


class Migration(migrations.Migration):

    atomic = False

    dependencies = [('ocr', '0005_lookups'), ('sessions_app', '0003_caller')]

    operations = [
        AddFieldOnce(
            model_name='ktpextraction',
            name='caller',
            field=models.CharField(
                blank=True, db_default='', default='', editable=False,
                help_text='Who sent it, as for a session.', max_length=64,
            ),
        ),
        migrations.RunPython(fill, migrations.RunPython.noop),
    ]
