"""The abusive files and requests are what they say, and what is slower is found to be so."""

from __future__ import annotations

import io
import re

import av
import httpx
import pytest
from PIL import Image

from benchmarks.abuse import crowds, files, texts
from benchmarks.abuse.catalogue import catalogue, named
from benchmarks.abuse.media_host import MediaHost
from benchmarks.media import Figure, body
from inference.media.formats import jpeg

#: made in no time; the others carry pictures
SMALL = {hostile.name: hostile for hostile in [*texts.texts(), *crowds.crowds()] if hostile.answers == 1}


def test_every_name_is_there_once() -> None:
    names = [hostile.name for hostile in catalogue()]
    assert len(set(names)) == len(names)
    assert all(named(name).name == name for name in names)


@pytest.mark.parametrize("name", SMALL)
def test_a_body_has_its_declared_length(name: str) -> None:
    pieces = [piece for piece in SMALL[name].make() if isinstance(piece, bytes)]
    head, _, rest = pieces[0].partition(b"\r\n\r\n")
    length = re.search(rb"Content-Length: (\d+)", head)
    assert length is not None
    assert len(rest) + sum(map(len, pieces[1:])) == int(length[1])


def test_small_files_hold_large_pictures() -> None:
    with Image.open(io.BytesIO(files.webp_50mp())) as picture:
        assert picture.width * picture.height == 50_002_460
    assert len(files.webp_50mp()) < 2500
    data = files.scans_jpeg(1000, (400, 300))
    assert jpeg.scans_in(data) > 1000
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.size == (400, 300)


def test_a_video_of_few_bytes_claims_millions_of_frames() -> None:
    data = files.many_samples()
    assert len(data) < 3000
    assert files.SAMPLES.to_bytes(4) in data


def test_a_video_of_large_frames_is_a_real_one() -> None:
    with av.open(io.BytesIO(files.many_packets(count=50))) as container:
        assert len(list(container.demux(video=0))) >= 50


def test_the_media_host_sends_files_and_redirects_to_itself() -> None:
    host = MediaHost({"/a.png": b"picture"})
    assert httpx.get(host.url("/a.png")).content == b"picture"
    assert httpx.get(host.url("/none.png")).status_code == 404
    assert httpx.get(host.url("/around/1.png")).headers["Location"] == "/around/1.png"
    with httpx.stream("GET", host.url("/drip/1.png")) as response:
        assert next(response.iter_raw()).startswith(b"\x89")


def test_a_rate_is_better_when_it_is_higher_and_a_time_when_it_is_lower() -> None:
    rate = Figure("a", 1, is_rate=True, ours=[1.0, 2.0, 9.0], theirs=[1.0, 1.0, 10.0])
    assert rate.ratio == 1.0
    assert rate.is_good
    time = Figure("a", 1, is_rate=False, ours=[11.0], theirs=[10.0])
    assert time.ratio == pytest.approx(10 / 11)
    assert not time.is_good
    # Eight at once must not be slower at all.
    assert Figure("a", 1, is_rate=True, ours=[96.0], theirs=[100.0]).is_good
    assert not Figure("a", 8, is_rate=True, ours=[99.0], theirs=[100.0]).is_good


@pytest.mark.parametrize("kind", ["photograph", "video"])
def test_no_two_honest_requests_are_alike(kind: str) -> None:
    assert body(kind, 1) == body(kind, 1)
    assert body(kind, 1) != body(kind, 2)
