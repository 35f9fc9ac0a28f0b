"""Uploads in temporary files that have no name: a process that is killed leaves no picture behind."""

from __future__ import annotations

import tempfile
from typing import Any

from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.core.files.uploadhandler import FileUploadHandler, TemporaryFileUploadHandler


class NamelessTemporaryFileUploadHandler(TemporaryFileUploadHandler):
    """Django's own handler makes a named file, and puts the client's file extension, of any length, into the name."""

    def new_file(self, *args: Any, **kwargs: Any) -> None:
        # The method of the parent's parent, because the parent's would create the file.
        FileUploadHandler.new_file(self, *args, **kwargs)
        file = tempfile.TemporaryFile(dir=settings.FILE_UPLOAD_TEMP_DIR)  # noqa: SIM115  (the request closes it)
        self.file: Any = UploadedFile(
            file, self.file_name or "", self.content_type or "", 0, self.charset, self.content_type_extra
        )

    def upload_interrupted(self) -> None:
        if hasattr(self, "file"):
            self.file.close()
