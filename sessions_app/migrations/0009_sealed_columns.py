"""Columns that private sessions encrypt. Rows of the last release are plain, and are read as they are."""

import sessions_app.encryption.fields
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('sessions_app', '0008_session_actions'),
    ]

    # Only in Django's eyes: the columns stay as they are. On SQLite a change would copy the tables.
    operations = [migrations.SeparateDatabaseAndState(state_operations=[
        migrations.AlterField(
            model_name='chatsession',
            name='error',
            field=sessions_app.encryption.fields.OpenedJSONField(blank=True, keep=('code', 'type'), null=True),
        ),
        migrations.AlterField(
            model_name='chatsession',
            name='request',
            field=sessions_app.encryption.fields.OpenedJSONField(help_text='The neutral request that a worker runs.', keep=('sampling', 'choices')),
        ),
        migrations.AlterField(
            model_name='chunk',
            name='delta',
            field=sessions_app.encryption.fields.OpenedJSONField(keep=(
                'type', 'choice', 'reason', 'status',
                'prompt_tokens', 'completion_tokens', 'reasoning_tokens', 'cached_tokens',
            )),
        ),
        migrations.AlterField(
            model_name='chunk',
            name='token_ids',
            field=sessions_app.encryption.fields.OpenedJSONField(default=list),
        ),
        migrations.AlterField(
            model_name='sessionmedia',
            name='data',
            field=sessions_app.encryption.fields.OpenedBinaryField(),
        ),
        migrations.AlterField(
            model_name='sessionmedia',
            name='sha256',
            field=models.CharField(help_text='Empty where the data is encrypted, which authenticates it.', max_length=64),
        ),
    ])]
