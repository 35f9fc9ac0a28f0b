"""Personal data is encrypted in its columns, those of the rows that are there too.

Processes of the last release go on writing plain values, and would show encrypted ones: stop them soon after, and then
run ``manage.py rotate_keys``, which encrypts what they wrote. Without a key in ``DATA_KEYS`` the rows stay plain.
"""

import sessions_app.encryption.fields
from django.db import migrations, models

from ocr import lookup
from sessions_app.encryption import rotation
from sessions_app.encryption.keyring import has_keys

CARD = (
    *('nik', 'nama', 'tempat_lahir', 'tgl_lahir', 'jenis_kelamin', 'alamat_name', 'alamat_rt_rw', 'alamat_kel_desa'),
    *('alamat_kecamatan', 'agama', 'status_perkawinan', 'pekerjaan', 'kewarganegaraan', 'berlaku_hingga', 'file_name'),
)


def value_digests(values):
    digests = {}
    if 'nik' in values:
        digests['nik_lookup'] = lookup.nik_lookup(values['nik'])
    if 'nama' in values:
        digests['name_lookup'] = lookup.name_lookup(values['nama'])
    return digests


def picture_digest(values):
    return {'sha256': lookup.picture_lookup(values['data'])} if 'data' in values else {}


#: as the tables have them here: what later releases derive has no column yet
DERIVED = {
    'KtpExtraction': rotation.Derived(('nik_lookup', 'name_lookup'), ('nik', 'nama'), value_digests),
    'KtpImage': rotation.Derived(('sha256',), ('data',), picture_digest),
    'KtpChange': rotation.NO_DERIVED,
}


def widen(apps, schema_editor):
    """Encrypted text is longer. PostgreSQL changes the type without writing a row; SQLite has no limit to change."""
    if schema_editor.connection.vendor != 'postgresql':
        return
    for table, columns in (('ocr_ktpextraction', CARD), ('ocr_ktpchange', ('old', 'new', 'note'))):
        schema_editor.execute(
            f'ALTER TABLE {table} ' + ', '.join(f'ALTER COLUMN {name} TYPE text' for name in columns)
        )


def encrypt(apps, schema_editor):
    if not has_keys():
        return
    for name, derived in DERIVED.items():
        model = apps.get_model('ocr', name)
        rows = model._base_manager.using(schema_editor.connection.alias)
        for _ in rotation.rotate(model, rows, derived=derived):
            pass


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('ocr', '0010_retention_of_old_readings'),
    ]

    operations = [
        migrations.RunPython(widen, migrations.RunPython.noop),
        # Only in Django's eyes: on SQLite each change would copy the table.
        migrations.SeparateDatabaseAndState(state_operations=[
        migrations.AlterField(
            model_name='ktpchange',
            name='facts',
            field=sessions_app.encryption.fields.EncryptedJSONField(blank=True, default=dict, help_text='Of a decision: which fields were corrected, which of them no flag had named, and seconds of review; never a value. Of a reading sent again: the values that it replaced.', keep=('corrected', 'missed', 'flagged', 'seconds')),
        ),
        migrations.AlterField(
            model_name='ktpchange',
            name='new',
            field=sessions_app.encryption.fields.EncryptedCharField(blank=True, max_length=200),
        ),
        migrations.AlterField(
            model_name='ktpchange',
            name='note',
            field=sessions_app.encryption.fields.EncryptedCharField(blank=True, max_length=500),
        ),
        migrations.AlterField(
            model_name='ktpchange',
            name='old',
            field=sessions_app.encryption.fields.EncryptedCharField(blank=True, max_length=200),
        ),
        migrations.AlterField(
            model_name='ktpextraction',
            name='agama',
            field=sessions_app.encryption.fields.EncryptedCharField(blank=True, default='', max_length=200, verbose_name='Religion'),
        ),
        migrations.AlterField(
            model_name='ktpextraction',
            name='alamat_kecamatan',
            field=sessions_app.encryption.fields.EncryptedCharField(blank=True, default='', max_length=200, verbose_name='District'),
        ),
        migrations.AlterField(
            model_name='ktpextraction',
            name='alamat_kel_desa',
            field=sessions_app.encryption.fields.EncryptedCharField(blank=True, default='', max_length=200, verbose_name='Village'),
        ),
        migrations.AlterField(
            model_name='ktpextraction',
            name='alamat_name',
            field=sessions_app.encryption.fields.EncryptedCharField(blank=True, default='', max_length=200, verbose_name='Address'),
        ),
        migrations.AlterField(
            model_name='ktpextraction',
            name='alamat_rt_rw',
            field=sessions_app.encryption.fields.EncryptedCharField(blank=True, default='', max_length=200, verbose_name='Neighbourhood'),
        ),
        migrations.AlterField(
            model_name='ktpextraction',
            name='berlaku_hingga',
            field=sessions_app.encryption.fields.EncryptedCharField(blank=True, default='', max_length=200, verbose_name='Valid until'),
        ),
        migrations.AlterField(
            model_name='ktpextraction',
            name='fields_read',
            field=sessions_app.encryption.fields.EncryptedJSONField(blank=True, default=dict, editable=False, help_text='As read by the model; never changed.'),
        ),
        migrations.AlterField(
            model_name='ktpextraction',
            name='file_name',
            field=sessions_app.encryption.fields.EncryptedCharField(blank=True, max_length=100, verbose_name='file name'),
        ),
        migrations.AlterField(
            model_name='ktpextraction',
            name='jenis_kelamin',
            field=sessions_app.encryption.fields.EncryptedCharField(blank=True, default='', max_length=200, verbose_name='Gender'),
        ),
        migrations.AlterField(
            model_name='ktpextraction',
            name='kewarganegaraan',
            field=sessions_app.encryption.fields.EncryptedCharField(blank=True, default='', max_length=200, verbose_name='Nationality'),
        ),
        migrations.AlterField(
            model_name='ktpextraction',
            name='nama',
            field=sessions_app.encryption.fields.EncryptedCharField(blank=True, default='', max_length=200, verbose_name='Name'),
        ),
        migrations.AlterField(
            model_name='ktpextraction',
            name='nik',
            field=sessions_app.encryption.fields.EncryptedCharField(blank=True, default='', max_length=200, verbose_name='Identity number'),
        ),
        migrations.AlterField(
            model_name='ktpextraction',
            name='pekerjaan',
            field=sessions_app.encryption.fields.EncryptedCharField(blank=True, default='', max_length=200, verbose_name='Occupation'),
        ),
        migrations.AlterField(
            model_name='ktpextraction',
            name='problems',
            field=sessions_app.encryption.fields.EncryptedJSONField(blank=True, default=list, editable=False, keep=('field', 'code', 'severity', 'message', 'pesan')),
        ),
        migrations.AlterField(
            model_name='ktpextraction',
            name='problems_read',
            field=sessions_app.encryption.fields.EncryptedJSONField(blank=True, db_default=models.Value([], models.JSONField()), default=list, editable=False, help_text='Problems of the values as read; never changed.', keep=('field', 'code', 'severity', 'message', 'pesan')),
        ),
        migrations.AlterField(
            model_name='ktpextraction',
            name='raw_answer',
            field=sessions_app.encryption.fields.EncryptedTextField(blank=True, editable=False, help_text='Before it was parsed.', verbose_name='answer of the model'),
        ),
        migrations.AlterField(
            model_name='ktpextraction',
            name='status_perkawinan',
            field=sessions_app.encryption.fields.EncryptedCharField(blank=True, default='', max_length=200, verbose_name='Marital status'),
        ),
        migrations.AlterField(
            model_name='ktpextraction',
            name='tempat_lahir',
            field=sessions_app.encryption.fields.EncryptedCharField(blank=True, default='', max_length=200, verbose_name='Place of birth'),
        ),
        migrations.AlterField(
            model_name='ktpextraction',
            name='tgl_lahir',
            field=sessions_app.encryption.fields.EncryptedCharField(blank=True, default='', max_length=200, verbose_name='Date of birth'),
        ),
        migrations.AlterField(
            model_name='ktpimage',
            name='data',
            field=sessions_app.encryption.fields.EncryptedBinaryField(),
        ),
        migrations.AlterField(
            model_name='ktpimage',
            name='sha256',
            field=models.CharField(db_index=True, help_text='Keyed: see ocr.lookup.', max_length=64),
        ),
        ]),
        migrations.RunPython(encrypt, migrations.RunPython.noop),
    ]
