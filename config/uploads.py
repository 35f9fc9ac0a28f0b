"""Uploads in temporary files whose names do not contain client input."""

from __future__ import annotations

from typing import Any

from django.core.files.uploadedfile import TemporaryUploadedFile
from django.core.files.uploadhandler import TemporaryFileUploadHandler


class NamelessTemporaryFileUploadHandler(TemporaryFileUploadHandler):
    """Django's own handler puts the client's file extension, of any length, into the name of the temporary file."""

    def new_file(self, *args: Any, **kwargs: Any) -> None:
        # The method of the parent's parent, because the parent's would create the file.
        super(TemporaryFileUploadHandler, self).new_file(*args, **kwargs)
        self.file = TemporaryUploadedFile("upload", self.content_type or "", 0, self.charset, self.content_type_extra)
        self.file.name = self.file_name or ""
