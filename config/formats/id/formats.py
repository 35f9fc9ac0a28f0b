"""Times as pages show them: one format, with the names of the months in the reader's language.

The zone is ``TIME_ZONE``. The admin names it once, at the foot of each page.
"""

from __future__ import annotations

DATE_FORMAT = "j M Y"
TIME_FORMAT = "H:i"
DATETIME_FORMAT = "j M Y, H:i:s"
SHORT_DATE_FORMAT = DATE_FORMAT
SHORT_DATETIME_FORMAT = DATETIME_FORMAT
