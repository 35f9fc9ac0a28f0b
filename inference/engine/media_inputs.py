"""Turns an image or a video into inputs of the vision tower, and into the tokens that represent it in a prompt."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image

from inference.engine.loading import LoadedModel
from inference.engine.types import Video

Kind = Literal["image", "video"]


@dataclass(frozen=True, slots=True, eq=False)
class MediaPiece:
    """One input of the vision tower: an image, or two frames of a video. Tensors are on the CPU."""

    kind: Kind
    #: identifies the content of the piece
    digest: bytes
    #: [patches, values of a patch]
    pixels: torch.Tensor
    #: [1, 3], frames (always 1), rows and columns of patches
    grid: torch.Tensor
    #: positions of its tokens in the prompt
    places: range


@dataclass(frozen=True, slots=True, eq=False)
class MediaInput:
    """One image or video, ready for the vision tower. Tensors are on the CPU."""

    kind: Kind
    #: the tokens that represent it in the prompt
    ids: tuple[int, ...]
    #: [1, 3], frames, rows and columns of patches
    grid: torch.Tensor
    #: [patches, values of a patch] for each image or pair of frames
    patches: tuple[torch.Tensor, ...]
    #: digest of each image or pair of frames
    digests: tuple[bytes, ...]
    #: number of tokens of each image or pair of frames
    piece_tokens: int

    def pieces(self, places: list[int]) -> Iterator[MediaPiece]:
        """Its pieces in a prompt, given the positions of its placeholder tokens."""
        _, rows, columns = self.grid[0].tolist()
        for number, (patches, digest) in enumerate(zip(self.patches, self.digests, strict=True)):
            first = places[number * self.piece_tokens]
            yield MediaPiece(
                kind=self.kind,
                digest=digest,
                pixels=patches,
                grid=torch.tensor([[1, rows, columns]]),
                places=range(first, first + self.piece_tokens),
            )


class MediaReader:
    """Reads images and videos with the processor of one model. Used by any number of threads."""

    def __init__(self, loaded: LoadedModel) -> None:
        self._processor = loaded.processor
        self._tokenizer = loaded.tokenizer.backend_tokenizer
        config = loaded.model.config
        self._merged = config.vision_config.spatial_merge_size**2
        #: the token ids that represent a part of an image, and of a video
        self.placeholders: dict[Kind, int] = {"image": config.image_token_id, "video": config.video_token_id}

    def tokens_of(self, media: Image.Image | Video) -> int:
        """The number of its placeholder tokens, from its size alone. Raises ValueError when it is too narrow."""
        if isinstance(media, Video):
            count, height, width, _ = _frames(media).shape
            patches = self._processor.video_processor.get_num_of_video_patches(count, height, width)
        else:
            patches = self._processor.image_processor.get_number_of_image_patches(media.height, media.width)
        return int(patches) // self._merged

    def read(self, media: Image.Image | Video) -> MediaInput:
        """Resize it and cut it into patches. Raises ValueError when it is too narrow."""
        return self._read_video(media) if isinstance(media, Video) else self._read_image(media)

    def _read_image(self, image: Image.Image) -> MediaInput:
        image = image.convert("RGB")
        # Not through the whole processor, whose handling of arguments takes as long as the pixels of a small image.
        features = self._processor.image_processor(images=[image], return_tensors="pt")
        grid = features["image_grid_thw"]
        ids = (self.placeholders["image"],) * (int(grid.prod()) // self._merged)
        return self._input("image", ids, grid, features["pixel_values"], [np.asarray(image)])

    def _read_video(self, video: Video) -> MediaInput:
        frames = _frames(video)
        features = self._processor(
            videos=[frames],
            return_tensors="pt",
            return_metadata=True,
            videos_kwargs={"do_sample_frames": False, "video_metadata": [_metadata(video)]},
        )
        # The processor writes the time of each pair of frames before its placeholders.
        text = self._processor.replace_video_token(features, 0)
        [encoding] = self._tokenizer.encode_batch_fast([text], add_special_tokens=False)
        together = self._processor.video_processor.temporal_patch_size
        sources = [frames[first : first + together] for first in range(0, len(frames), together)]
        grid, pixels = features["video_grid_thw"], features["pixel_values_videos"]
        return self._input("video", tuple(encoding.ids), grid, pixels, sources)

    def _input(
        self, kind: Kind, ids: tuple[int, ...], grid: torch.Tensor, pixels: torch.Tensor, sources: Sequence[np.ndarray]
    ) -> MediaInput:
        """``sources`` are what each piece was made from."""
        # As small as the vision tower allows: it never attends across pairs of frames.
        _, rows, columns = grid[0].tolist()
        patches = pixels.split(rows * columns)
        return MediaInput(
            kind=kind,
            ids=ids,
            grid=grid,
            patches=patches,
            digests=tuple(_digest(kind, rows, columns, source) for source in sources),
            piece_tokens=rows * columns // self._merged,
        )


def _digest(kind: Kind, rows: int, columns: int, source: np.ndarray) -> bytes:
    """Of the pixels, which determine the patches. Without resizing the patches have eight times as many bytes."""
    digest = hashlib.blake2b(f"{kind}:{rows}x{columns}:{source.shape}:".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(source).data)
    return digest.digest()


def _frames(video: Video) -> np.ndarray:
    # The processor merges frames in pairs; it pads an odd number by itself, but not a single frame.
    return video.frames if len(video.frames) > 1 else np.repeat(video.frames, 2, axis=0)


def _metadata(video: Video) -> dict[str, Any]:
    # The processor takes frame numbers and a rate. At a thousand frames a second the number is the time in
    # milliseconds, which keeps the true times of frames that are not evenly spread.
    milliseconds = [round(seconds * 1000) for seconds in video.timestamps_seconds]
    return {
        "total_num_frames": len(video.frames),
        "fps": 1000.0,
        "frames_indices": milliseconds,
        "height": video.frames.shape[1],
        "width": video.frames.shape[2],
    }
