"""Log lines as JSON, for ``LOG_FORMAT=json``: one object per line, always with the same members."""

from __future__ import annotations

import datetime
import json
import logging

from sessions_app.log_lines import MAX_MESSAGE_CHARS, LineFormatter, cut, printable, without_keys


class JsonFormatter(LineFormatter):
    """time, level, logger, message, request_id, session, worker, attempt; and exception where there is a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        request_id = getattr(record, "request_id", "-")
        line = {
            "time": _utc(record.created),
            "level": record.levelname,
            "logger": record.name,
            "message": printable(cut(without_keys(record.getMessage()), MAX_MESSAGE_CHARS)),
            "request_id": None if request_id == "-" else request_id,
            "session": getattr(record, "session", None),
            "worker": getattr(record, "worker", None),
            "attempt": getattr(record, "attempt", None),
        }
        if record.exc_info:
            text = self.formatException(record.exc_info)
            line["exception"] = "\n".join(map(printable, text.split("\n")))
        return json.dumps(line, ensure_ascii=False)


def _utc(seconds: float) -> str:
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
