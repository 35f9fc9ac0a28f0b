"""The upload form. Its error messages say what to do."""

from __future__ import annotations

from django import forms
from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from inference.errors import ApiError, OverShare, TooLarge, Unavailable
from inference.media.formats.image import format_of
from ocr.scans import is_pdf
from sessions_app.encryption.keyring import DataKeyMissing

#: files that the browser's dialog offers; with extensions, because some browsers have no MIME type for these formats
ACCEPTED = "image/*,.heic,.heif,.avif,.tif,.tiff,.bmp,.pdf,application/pdf"
MAX_PAGES = 9999


class UploadForm(forms.Form):
    image = forms.FileField(
        label=gettext_lazy("Picture of the card"),
        allow_empty_file=True,  # the decoder reports it, as for any other broken file
        error_messages={
            "required": gettext_lazy("Choose a picture of a card first."),
            "invalid": gettext_lazy("The file did not arrive. Send it again."),
        },
        widget=forms.ClearableFileInput(
            attrs={"accept": ACCEPTED, "aria-describedby": "image-help image-errors", "class": "file"}
        ),
    )
    page = forms.IntegerField(
        label=gettext_lazy("Page of a PDF"),
        required=False,
        min_value=1,
        max_value=MAX_PAGES,
        widget=forms.NumberInput(attrs={"class": "page", "inputmode": "numeric", "placeholder": "1"}),
    )

    def clean_image(self) -> UploadedFile:
        image: UploadedFile = self.cleaned_data["image"]
        if (image.size or 0) > settings.OCR_MAX_UPLOAD_BYTES:
            raise forms.ValidationError(_too_large(), code="too_large")
        return image

    def refuse(self, refusal: ApiError, data: bytes) -> None:
        """Show the error: at the field if it is about the file, above the form if it is about the server."""
        if isinstance(refusal, DataKeyMissing):
            raise refusal
        if isinstance(refusal, Unavailable):
            self.add_error(
                None,
                _("The card reader is not available now. The picture was not kept; send it again in a moment."),
            )
        elif isinstance(refusal, OverShare):
            self.add_error(
                None, _("Many of your cards are waiting already. Send this one again when some of them have been read.")
            )
        else:
            self.add_error("image", _reason(refusal, data))

    @property
    def first_error(self) -> str:
        """The error to show to a client that sent one file."""
        return next((str(error) for errors in self.errors.values() for error in errors), "")


def _reason(refusal: ApiError, data: bytes) -> str:
    if isinstance(refusal, TooLarge):
        return _too_large()
    if refusal.code == "pdf_locked":
        return _("This PDF is locked with a password. Save it without one, or take a picture of the card.")
    if refusal.code == "pdf_no_such_page":
        return _("This PDF does not have that page. Choose another page.")
    if not data:
        return _("The file is empty. Choose it again, or take a new picture.")
    if is_pdf(data):
        return _("This PDF cannot be read. Scan the card again, or take a picture of it.")
    if format_of(data) is None:
        return _("This file is not a picture. Choose a photograph (JPEG, PNG, HEIC, WebP and others) or a PDF scan.")
    return _("This picture is damaged, or too large to read. Take a new one, or save it as JPEG.")


def _too_large() -> str:
    return _("The file is larger than %(limit)s. Save the picture at a lower quality, or take a smaller one.") % {
        "limit": filesizeformat(settings.OCR_MAX_UPLOAD_BYTES)
    }
