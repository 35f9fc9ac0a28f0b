"""Where uploaded files wait: in temporary files whose names owe nothing to their senders."""

from __future__ import annotations

from typing import Any

from django.core.files.uploadedfile import TemporaryUploadedFile
from django.core.files.uploadhandler import TemporaryFileUploadHandler


class NamelessTemporaryFileUploadHandler(TemporaryFileUploadHandler):
    """Django puts what stands behind the last dot of a file's name into the temporary file's, however long it is."""

    def new_file(self, *args: Any, **kwargs: Any) -> None:
        # Of the parent's parent: the parent makes the file.
        super(TemporaryFileUploadHandler, self).new_file(*args, **kwargs)
        self.file = TemporaryUploadedFile("upload", self.content_type or "", 0, self.charset, self.content_type_extra)
        self.file.name = self.file_name or ""
