"""What Django's debug pages (``DEBUG=1``) show of the settings."""

from __future__ import annotations

import re

from django.views.debug import SafeExceptionReporterFilter


class AddressesHidden(SafeExceptionReporterFilter):
    """Also hides ``REDIS_URL``: it contains a password, but Django does not recognise its name as that of a secret."""

    hidden_settings = re.compile(f"{SafeExceptionReporterFilter.hidden_settings.pattern}|REDIS_URL", re.IGNORECASE)
