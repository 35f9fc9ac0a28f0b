"""What was read before there was a queue waits in it, and has a history as far as its row can tell."""

from django.db import migrations
from django.db.models import F

BATCH = 1000

COLUMNS = (
    'nik', 'nama', 'tempat_lahir', 'tgl_lahir', 'jenis_kelamin', 'alamat_name', 'alamat_rt_rw', 'alamat_kel_desa',
    'alamat_kecamatan', 'agama', 'status_perkawinan', 'pekerjaan', 'kewarganegaraan', 'berlaku_hingga',
)


def fill(apps, schema_editor):
    using = schema_editor.connection.alias
    readings = apps.get_model('ocr', 'KtpExtraction').objects.using(using)
    changes = apps.get_model('ocr', 'KtpChange').objects.using(using)
    change = changes.model

    readings.exclude(state='reading').update(problems_read=F('problems'))
    unread = readings.filter(**{column: '' for column in COLUMNS})
    readings.filter(state='read').exclude(pk__in=unread.values('pk')).update(submitted_at=F('completed_at'))
    readings.exclude(review='needs_review').update(flagged=False)

    columns = ('pk', 'state', 'completed_at', 'review', 'reviewed_at', 'reviewed_by', 'reviewed_by__username')
    lines = []
    for pk, state, completed_at, review, reviewed_at, reviewer, name in readings.exclude(
        state='reading'
    ).values_list(*columns).iterator(BATCH):
        lines.append(change(extraction_id=pk, version=0, at=completed_at, kind=state))
        if review != 'needs_review':
            line = change(extraction_id=pk, version=0, at=reviewed_at, kind=review)
            line.actor_id, line.actor_name = reviewer, name or ''
            lines.append(line)
        if len(lines) >= BATCH:
            changes.bulk_create(lines)
            lines = []
    changes.bulk_create(lines)


class Migration(migrations.Migration):

    dependencies = [('ocr', '0002_reviewing')]

    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
