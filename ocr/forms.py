"""The upload form. Every refusal stands in both languages, for it is a clerk who reads it."""

from __future__ import annotations

from django import forms
from django.conf import settings
from django.core.files.uploadedfile import UploadedFile

from inference.errors import ApiError, TooLarge, Unavailable

ACCEPTED = "image/jpeg,image/png,image/webp,image/gif,image/bmp,image/tiff"


class UploadForm(forms.Form):
    image = forms.FileField(
        label="Foto KTP",
        allow_empty_file=True,  # the decoder says what is wrong with it, as with any other file
        error_messages={
            "required": "Pilih dahulu sebuah foto KTP. / Choose a picture of a KTP first.",
            "invalid": "Berkas tidak terkirim. Coba lagi. / The file did not arrive. Try again.",
        },
        widget=forms.ClearableFileInput(
            attrs={"accept": ACCEPTED, "aria-describedby": "image-help image-errors", "class": "file"}
        ),
    )

    def clean_image(self) -> UploadedFile:
        image: UploadedFile = self.cleaned_data["image"]
        if (image.size or 0) > settings.MAX_IMAGE_BYTES:
            raise forms.ValidationError(_too_large(), code="too_large")
        return image

    def refuse(self, refusal: ApiError) -> None:
        """Show why the upload was not taken: beside the field when it is the picture, above the form when it is us."""
        if isinstance(refusal, Unavailable):
            self.add_error(
                None,
                "Pembaca KTP sedang tidak tersedia. Foto tidak disimpan; coba lagi sebentar. / "
                "The card reader is not available now. The picture was not kept; try again in a moment.",
            )
        elif isinstance(refusal, TooLarge):
            self.add_error("image", _too_large())
        else:
            self.add_error(
                "image",
                "Berkas ini bukan gambar yang dapat dibaca. Format diterima: PNG, JPEG, WebP, GIF, BMP dan TIFF. / "
                f"{refusal.message}",
            )


def _too_large() -> str:
    limit = f"{settings.MAX_IMAGE_BYTES / 2**20:g} MiB"
    return f"Berkas terlalu besar; paling besar {limit}. / The file is too large; at most {limit}."
