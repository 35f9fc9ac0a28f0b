"""Keyed digests of NIK and name, by which readings are found once those are encrypted.

Processes of the last release insert readings without them: run ``manage.py rotate_keys`` once they are stopped.
"""

from django.conf import settings
from django.db import migrations, models
from django.db.models import Q

from ocr.lookup import value_lookups
from sessions_app.encryption.keyring import has_keys
from sessions_app.migration_operations import AddFieldOnce, AddIndexWithoutLock

BATCH = 500


def fill(apps, schema_editor):
    if not has_keys():
        return
    readings = apps.get_model('ocr', 'KtpExtraction').objects.using(schema_editor.connection.alias)
    without = readings.filter(~Q(nik='') | ~Q(nama=''), nik_lookup='', name_lookup='').order_by('pk')
    last = None
    while rows := list((without.filter(pk__gt=last) if last else without).values('pk', 'nik', 'nama')[:BATCH]):
        for row in rows:
            # Unchanged since it was read: a correction at the same time writes its own.
            readings.filter(**row).update(**value_lookups({'nik': row['nik'], 'nama': row['nama']}))
        last = rows[-1]['pk']


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('ocr', '0007_audit_log'),
        ('sessions_app', '0008_session_actions'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        AddFieldOnce(
            model_name='ktpextraction',
            name='name_lookup',
            field=models.CharField(blank=True, db_default='', default='', editable=False, max_length=64),
        ),
        AddFieldOnce(
            model_name='ktpextraction',
            name='nik_lookup',
            field=models.CharField(
                blank=True, db_default='', default='', editable=False, help_text='See ocr.lookup.', max_length=64
            ),
        ),
        AddIndexWithoutLock(
            model_name='ktpextraction',
            index=models.Index(fields=['nik_lookup'], name='ktp_nik'),
        ),
        AddIndexWithoutLock(
            model_name='ktpextraction',
            index=models.Index(fields=['name_lookup'], name='ktp_name'),
        ),
        migrations.RunPython(fill, migrations.RunPython.noop),
    ]
