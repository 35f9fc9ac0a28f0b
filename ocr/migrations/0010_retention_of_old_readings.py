"""Add the indexes of the purge, the links of stored readings to their sessions, and an early autovacuum."""

from django.db import migrations, models, transaction
from django.db.models import Q

from sessions_app.migration_operations import AddIndexWithoutLock

BATCH = 1000

TABLES = ('ocr_ktpextraction', 'ocr_ktpimage', 'ocr_ktpchange', 'sessions_app_chunk', 'sessions_app_sessionmedia')
#: One dead row in a hundred; PostgreSQL's default is one in five. So erased rows are vacuumed within minutes.
SCALE = 0.01


def link(apps, schema_editor):
    """Each batch has a transaction of its own, in the order of the primary key, because the table is in use meanwhile.

    Processes of the last release still store no links, so ``ocr.erasing`` uses ``KtpExtraction.session`` too.
    """
    using = schema_editor.connection.alias
    readings = apps.get_model('ocr', 'KtpExtraction').objects.using(using).exclude(session=None).order_by('pk')
    links = apps.get_model('ocr', 'KtpSession').objects.using(using)
    last = None
    while True:
        left = readings.filter(pk__gt=last) if last else readings
        with transaction.atomic(using):
            # Locked, so that no reading is deleted before its link is stored.
            batch = left.select_for_update(no_key=True).values_list('pk', 'session_id')[:BATCH]
            made = [links.model(session_id=session_id, extraction_id=pk) for pk, session_id in batch]
            links.bulk_create(made, ignore_conflicts=True)
        if not made:
            return
        last = made[-1].extraction_id


def vacuum_early(apps, schema_editor):
    set_parameters(schema_editor, f'SET (autovacuum_vacuum_scale_factor = {SCALE})')


def vacuum_as_others(apps, schema_editor):
    set_parameters(schema_editor, 'RESET (autovacuum_vacuum_scale_factor)')


def set_parameters(schema_editor, change):
    if schema_editor.connection.vendor != 'postgresql':
        return
    for table in TABLES:
        # Pictures are in TOAST tables, which use the parameter of their table unless they have their own.
        schema_editor.execute(f'ALTER TABLE {table} {change}')


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('ocr', '0009_retention'),
    ]

    operations = [
        AddIndexWithoutLock(
            model_name='ktpextraction',
            index=models.Index(condition=Q(('image_removed_at', None)), fields=['created_at'], name='ktp_with_image'),
        ),
        AddIndexWithoutLock(
            model_name='ktpextraction',
            index=models.Index(condition=Q(('review', 'rejected')), fields=['reviewed_at'], name='ktp_rejected'),
        ),
        AddIndexWithoutLock(
            model_name='ktpextraction',
            index=models.Index(
                condition=Q(('review', 'needs_review'), ('submitted_at', None)),
                fields=['created_at'],
                name='ktp_never_sent',
            ),
        ),
        migrations.RunPython(link, migrations.RunPython.noop),
        migrations.RunPython(vacuum_early, vacuum_as_others),
    ]
