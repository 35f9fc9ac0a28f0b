"""``manage.py evaluate_ktp`` against a live server."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from inference.backends.engine_config import engine_config
from inference.engine_process.client import EngineProcess
from ocr.evaluation.readers import ask
from ocr.reading.confidence import Token
from ocr.reading.parsing import storable
from tests.labelled_cards import label, other_label, write_folder
from tests.live.stack import ROOT, EmbeddedStack
from tests.waiting import wait_for

#: Two processes may hold the weights in different forms, whose sums are rounded differently. Where random weights make
#: two tokens as likely as this, either may come, and then another text.
NEAR_TIE = 1e-3


@pytest.fixture
def cards(tmp_path: Path) -> Path:
    labels = [label(f"{tmp_path.name}-{number}.jpg") for number in range(3)]
    labels.append(label(f"{tmp_path.name}-covered.png", condition="covered", hidden=["nik", "nama"]))
    return write_folder(tmp_path / "cards", [*labels, other_label(f"{tmp_path.name}-other.jpg")])


def evaluate(stack: EmbeddedStack, *arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    """The command with no model and no database of its own to fall back on."""
    return subprocess.run(
        command(stack, *arguments), cwd=ROOT, env=env_of(stack) | variables, capture_output=True, text=True, timeout=90
    )


def command(stack: EmbeddedStack, *arguments: object) -> list[str]:
    return [sys.executable, "manage.py", "evaluate_ktp", *map(str, arguments), "--base-url", stack.base_url]


def env_of(stack: EmbeddedStack) -> dict[str, str]:
    return stack.env | {"MODEL_REPO_ID": "/nowhere", "SESSIONS_DB_PATH": "/nowhere/sessions.db"}


def test_over_http_every_card_is_counted_and_random_weights_get_no_card_right(
    embedded_server: EmbeddedStack, cards: Path, tmp_path: Path
) -> None:
    report = tmp_path / "report.json"
    before = embedded_server.query("SELECT count(*) FROM ocr_ktpextraction")[0][0]
    done = evaluate(embedded_server, cards, "--concurrency", 2, "--json", report)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"5 synthetic specimens of {cards}\nread by tiny at {embedded_server.base_url}, 2 at")
    found = json.loads(report.read_text())["all"]
    assert (found["cards"], found["others"], found["failed"]) == (4, 1, 0)
    for name, of in (("card_exact", 4), ("nik_exact", 3)):
        assert (found[name]["hits"], found[name]["of"]) == (0, of), name
    # The grammar makes digits of random weights, and some digits are right by chance.
    for name, of in (("field_exact", 4 * 14), ("nik_digits", 48)):
        assert found[name]["of"] == of, name
        assert found[name]["hits"] < of / 2, name
    assert "Card exact                 0.0%  0.0–49.0      0 of 4" in done.stdout
    assert embedded_server.query("SELECT count(*) FROM ocr_ktpextraction")[0][0] == before + 5


def margin_at(offset: int, tokens: list[Token]) -> float:
    """How much likelier the token at this byte was than the next likely one, as a difference of logarithms."""
    ends = itertools.accumulate(len(token.raw) for token in tokens)
    token = next((token for token, end in zip(tokens, ends, strict=True) if end > offset), tokens[-1])
    first, second, *_ = sorted((logprob for _, logprob in token.others), reverse=True)
    return first - second


def test_loaded_for_the_run_the_model_says_what_it_says_through_the_api(
    embedded_server: EmbeddedStack, cards: Path, settings: Any, tiny_model: Path
) -> None:
    assert evaluate(embedded_server, cards).returncode == 0
    # Both are encrypted, with the server's key.
    said = json.loads(
        embedded_server.run_python(
            "import django, json; django.setup()\n"
            "from ocr.models import KtpExtraction\n"
            "print(json.dumps(dict(KtpExtraction.objects.values_list('file_name', 'raw_answer'))))"
        )
    )
    settings.MODEL_REPO_ID = str(tiny_model)
    settings.OCR_MAX_TOKENS = int(embedded_server.env["OCR_MAX_TOKENS"])
    engine = EngineProcess(engine_config(), lambda stage: None)
    engine.load()
    try:
        for picture in cards.glob("*.[jp][pn]g"):
            text, _, tokens = ask(engine, picture.read_bytes())
            assert len(text) > 20
            other, text = said[picture.name], storable(text)
            if other != text:
                same = itertools.takewhile(lambda both: both[0] == both[1], zip(other, text, strict=False))
                assert margin_at(len("".join(mine for mine, _ in same).encode()), tokens) < NEAR_TIE, (other, text)
    finally:
        engine.stop()


def test_a_server_with_keys_is_read_with_one_and_refuses_without(
    start_embedded: Callable[..., EmbeddedStack], cards: Path
) -> None:
    stack = start_embedded(API_KEYS="open-sesame")
    refused = evaluate(stack, cards)
    assert refused.returncode == 1
    assert f"CommandError: {stack.base_url} answers 401: This server needs an API key" in refused.stderr
    assert refused.stdout == ""
    assert evaluate(stack, cards, "--limit", 1, "--api-key", "open-sesame").returncode == 0


def test_ctrl_c_shows_what_was_read_until_then(
    start_embedded: Callable[..., EmbeddedStack], cards: Path, tmp_path: Path
) -> None:
    stack = start_embedded(OCR_MAX_TOKENS=100)
    many = write_folder(tmp_path / "many", [label(f"{number}.jpg") for number in range(200)])
    report = tmp_path / "report.json"
    process = subprocess.Popen(
        command(stack, many, "--json", report), cwd=ROOT, env=env_of(stack), stdout=subprocess.PIPE, text=True
    )
    wait_for(lambda: stack.query("SELECT count(*) FROM ocr_ktpextraction WHERE state = 'read'")[0][0] >= 3)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    found = json.loads(report.read_text())
    assert not found["complete"]
    assert 2 <= found["all"]["cards"] < 200
    assert out.startswith(f"{found['all']['cards']} of 200 synthetic specimens of {many}\n")


def test_a_server_that_goes_away_ends_the_run_with_what_was_read(
    start_embedded: Callable[..., EmbeddedStack], tmp_path: Path
) -> None:
    stack = start_embedded(OCR_MAX_TOKENS=100)
    many = write_folder(tmp_path / "many", [label(f"{number}.jpg") for number in range(200)])
    process = subprocess.Popen(
        command(stack, many), cwd=ROOT, env=env_of(stack), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_for(lambda: stack.query("SELECT count(*) FROM ocr_ktpextraction WHERE state = 'read'")[0][0] >= 3)
    stack.processes["serve"].kill()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"{stack.base_url} does not answer any more" in err
    assert " of 200 synthetic specimens" in out.splitlines()[0]
