from django.db import migrations


class Migration(migrations.Migration):

    dependencies = [
        ('ocr', '0015_caller_of_tombstones'),
    ]

    operations = [
        migrations.AlterModelOptions(
            name='ktpextraction',
            options={
                'ordering': ('-created_at',),
                'permissions': (
                    ('view_ktp_image', 'Can view the images of cards'),
                    ('review_ktp', 'Can approve and reject readings'),
                    ('approve_own_ktp', 'Can approve own readings that nothing has flagged, without review'),
                    ('find_person_ktp', 'Can find all readings of a person'),
                    ('export_person_ktp', 'Can export everything that is held about a person'),
                    ('erase_ktp', 'Can erase readings'),
                    ('freeze_ktp', 'Can freeze and unfreeze readings (legal hold)'),
                    ('export_ktpextraction', 'Can export readings with all values'),
                ),
                'verbose_name': 'KTP extraction',
                'verbose_name_plural': 'KTP extractions',
            },
        ),
    ]
