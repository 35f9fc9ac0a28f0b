"""The form of ``POST /ktp-ocr/``: one picture in ``image``, or several in ``images`` and ``archive``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.http import HttpRequest

from inference.api.body import Upload
from inference.errors import ApiError, InvalidRequest, TooLarge
from ocr.api.archive import is_archive, unpack
from ocr.callbacks.address import FIELD as CALLBACK_URL
from ocr.callbacks.address import check_callback
from ocr.card_image import check_size

IMAGE, IMAGES, ARCHIVE = "image", "images", "archive"


@dataclass(frozen=True, slots=True)
class Form:
    """The parsed form: the pictures in order, with an error in place of each that cannot be used."""

    images: list[Upload | ApiError]
    #: whether the caller gets a list, even for one picture
    is_batch: bool
    #: callback address for the end of the readings; "" for none
    callback_url: str = ""

    @property
    def image(self) -> Upload:
        """The only picture. Raises its error."""
        [image] = self.images
        if isinstance(image, ApiError):
            raise image
        return image


def read(request: HttpRequest) -> Form:
    """Parse the form. It blocks, so call it on a thread. Raises ``ApiError``, and Django's errors for bad forms.

    The files are closed, so that the request does not hold them while it waits for the reading.
    """
    try:
        return _read(request)
    finally:
        request.close()


def _read(request: HttpRequest) -> Form:
    callback_url = request.POST.get(CALLBACK_URL, "").strip()
    if callback_url:
        check_callback(callback_url)
    single = request.FILES.getlist(IMAGE)
    several = {name: request.FILES.getlist(name) for name in (IMAGES, ARCHIVE)}
    if any(several.values()):
        if single:
            raise InvalidRequest(f"Send either {IMAGE} or {IMAGES} and {ARCHIVE}, not both.", param=IMAGES)
        return Form(_within_limits(several), is_batch=True, callback_url=callback_url)
    if not single:
        raise InvalidRequest(
            "Send the picture of the card as a file in the multipart/form-data field image.", param=IMAGE
        )
    if len(single) > 1:
        raise InvalidRequest(
            f"The form has {len(single)} files in the field {IMAGE}. Send one, or several in the field {IMAGES}.",
            param=IMAGE,
        )
    return Form([_upload(single[0])], is_batch=False, callback_url=callback_url)


def _within_limits(several: dict[str, list[UploadedFile]]) -> list[Upload | ApiError]:
    images: list[Upload | ApiError] = []
    left = settings.OCR_BATCH_MAX_BYTES
    for image in _each(several):
        images.append(image)
        left -= len(image.data) if isinstance(image, Upload) else 0
        if len(images) > settings.OCR_BATCH_MAX_IMAGES:
            raise TooLarge(
                f"There are more than {settings.OCR_BATCH_MAX_IMAGES} pictures. Send the others in another request.",
                param=IMAGES,
            )
        if left < 0:
            raise TooLarge(
                f"The pictures have more than {settings.OCR_BATCH_MAX_BYTES} bytes together. Send some of them in "
                "another request.",
                param=IMAGES,
            )
    if not images:
        raise InvalidRequest("The archive has no pictures.", param=ARCHIVE)
    return images


def _each(several: dict[str, list[UploadedFile]]) -> Iterator[Upload | ApiError]:
    for name, files in several.items():
        for file in files:
            if name == ARCHIVE or is_archive(file):
                yield from unpack(file, name)
            else:
                try:
                    yield _upload(file)
                except TooLarge as error:
                    yield error


def _upload(file: UploadedFile) -> Upload:
    check_size(file.size or 0)
    return Upload(file.name or "", file.read())
