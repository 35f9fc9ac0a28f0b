"""What Django's error pages, which ``DEBUG=1`` shows, say of the settings."""

from __future__ import annotations

import re

from django.views.debug import SafeExceptionReporterFilter


class AddressesHidden(SafeExceptionReporterFilter):
    """Django hides settings by their names, and ``REDIS_URL`` does not sound like a password. There is one in it."""

    hidden_settings = re.compile(f"{SafeExceptionReporterFilter.hidden_settings.pattern}|REDIS_URL", re.IGNORECASE)
