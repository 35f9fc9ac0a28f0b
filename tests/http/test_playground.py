"""What the front page is, by the settings."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.conf import settings
from django.test import Client

pytestmark = pytest.mark.django_db(transaction=True)


def config_of(page: str) -> Any:
    return json.loads(page.partition('id="playground-config" type="application/json">')[2].partition("</script>")[0])


def test_the_front_page_is_the_playground() -> None:
    page = Client().get("/")
    assert page.status_code == 200
    assert config_of(page.text)["addresses"]["events"] == "/v1/sessions/SESSION/events"
    assert 'id="composer"' in page.text


def test_it_may_show_files_that_wait_to_be_sent_and_write_no_html() -> None:
    policy = Client().get("/")["Content-Security-Policy"]
    assert "img-src 'self' data: blob:;" in policy
    assert "media-src 'self' blob:;" in policy
    assert "require-trusted-types-for 'script'; trusted-types 'none'" in policy
    # Other pages may not.
    other = Client().get("/accounts/login/")["Content-Security-Policy"]
    assert "media-src 'self';" in other and "trusted-types" not in other


def test_a_setting_turns_it_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "PLAYGROUND", False)
    page = Client().get("/").text
    assert "playground" not in page
    assert "/docs" in page and "/health" in page


@pytest.mark.parametrize(
    ("model", "engine", "only_reads", "cards"),
    [
        ("models/ktp-reader", "local", True, 3),
        ("./models/ktp-reader/", "local", True, 3),
        ("Qwen/Qwen3-VL-2B-Thinking", "local", False, 3),
        ("models/ktp-reader", "openai", False, 0),
    ],
)
def test_the_demos_model_says_what_it_is_and_offers_cards(
    monkeypatch: pytest.MonkeyPatch, model: str, engine: str, only_reads: bool, cards: int
) -> None:
    monkeypatch.setattr(settings, "MODEL_REPO_ID", model)
    monkeypatch.setattr(settings, "INFERENCE_ENGINE", engine)
    page = Client().get("/").text
    assert ("can do nothing else" in page) == only_reads
    assert len(config_of(page)["cards"]) == page.count('id="card-') == cards


def test_it_asks_for_a_key_where_callers_need_one_and_holds_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert config_of(Client().get("/").text)["needsKey"] is False
    monkeypatch.setattr(settings, "API_KEYS", ["a-key-that-nobody-should-see"])
    page = Client().get("/").text
    assert config_of(page)["needsKey"] is True
    assert "a-key-that-nobody-should-see" not in page
