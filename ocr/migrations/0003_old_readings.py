"""What was read before there was a queue waits in it, and has a history as far as its row can tell."""

from django.db import migrations, transaction
from django.db.models import Exists, F, OuterRef

BATCH = 1000

COLUMNS = (
    'nik', 'nama', 'tempat_lahir', 'tgl_lahir', 'jenis_kelamin', 'alamat_name', 'alamat_rt_rw', 'alamat_kel_desa',
    'alamat_kecamatan', 'agama', 'status_perkawinan', 'pekerjaan', 'kewarganegaraan', 'berlaku_hingga',
)


def fill(apps, schema_editor):
    """In batches of their own transactions: the table is in use meanwhile. A second run goes on after the first."""
    using = schema_editor.connection.alias
    readings = apps.get_model('ocr', 'KtpExtraction').objects.using(using)
    changes = apps.get_model('ocr', 'KtpChange').objects.using(using)
    told = changes.filter(extraction=OuterRef('pk'))
    untold = readings.exclude(state='reading').filter(~Exists(told)).order_by('pk')
    last = None
    while True:
        left = untold.filter(pk__gt=last) if last else untold
        with transaction.atomic(using):
            # The lock: none of them is deleted before its lines are stored.
            pks = list(left.select_for_update(no_key=True).values_list('pk', flat=True)[:BATCH])
            tell(readings.filter(pk__in=pks), changes)
        if not pks:
            return
        last = pks[-1]


def tell(readings, changes):
    change = changes.model
    readings.update(problems_read=F('problems'))
    unread = readings.filter(**{column: '' for column in COLUMNS})
    readings.filter(state='read').exclude(pk__in=unread.values('pk')).update(submitted_at=F('completed_at'))
    readings.exclude(review='needs_review').update(flagged=False)

    columns = ('pk', 'state', 'completed_at', 'review', 'reviewed_at', 'reviewed_by', 'reviewed_by__username')
    lines = []
    for pk, state, completed_at, review, reviewed_at, reviewer, name in readings.values_list(*columns):
        lines.append(change(extraction_id=pk, version=0, at=completed_at, kind=state))
        if review != 'needs_review':
            line = change(extraction_id=pk, version=0, at=reviewed_at, kind=review)
            line.actor_id, line.actor_name = reviewer, name or ''
            lines.append(line)
    changes.bulk_create(lines)


class Migration(migrations.Migration):

    atomic = False

    dependencies = [('ocr', '0002_reviewing')]

    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
