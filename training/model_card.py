"""``python -m training.model_card FOLDER``: write the exported reader's README.md from what was measured of it.

FOLDER has ``training.json`` and ``training-log.jsonl`` of the export, and ``evaluation.json`` that ``manage.py
evaluate_ktp --json`` wrote. The curve is drawn from the log.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ocr.evaluation.report import RATES
from training.plot import plot, read_log

#: the members of ``RATES`` in the table by condition
BY_CONDITION = ("field_exact", "nik_exact", "nik_digits", "wrong_unflagged")

TEXT = """\
---
license: mit
library_name: transformers
pipeline_tag: image-text-to-text
---

# ktp-reader

A Qwen3-VL of {weights:.1f} million weights (Transformers' own classes) that reads **synthetic specimens** of the
Indonesian identity card (KTP) into the JSON of `POST /ktp-ocr/`. It was trained from scratch by `training/` on cards
that `ocr/specimens/` draws, and has seen no real card.

**Synthetic specimens only; not for real decisions.** The specimens have invented names, numbers that cannot exist
(district 99) and free fonts. What it makes of a photograph of a real card is unknown. It is here so that the demo reads
something true, so that tests have a model with a meaning, and as a recipe: for cards that count, fine-tune a released
Qwen3-VL (`training/README.md`).

## Figures

`manage.py evaluate_ktp`: {pictures} synthetic specimens of a seed that was never trained on, read by
{reader}. Shares with 95% Wilson intervals, which are too narrow over
fields and digits, since those of one card depend on each other. A value is flagged when a rule finds fault with it, or
the model gave one of its characters a probability below `OCR_DOUBT_BELOW` (its default).

{overall}

Character error rate {cer:.1%}, ANLS* {anls:.3f}. Seconds a picture: {p50:.2f} (p50), {p95:.2f} (p95), one at a time.

{conditions}

By field: {fields}.

## Training

{cards:,} views of drawn cards and {pages:,} of pages of letters in {hours:.1f} hours, {steps:,} steps, seed {seed},
size `{size}`:

![Loss and accuracy](curve.png)

{command}

What is taught, in which order and why stands in `training/README.md`. The curve's last part scores with the right
answer so far given at every step, which is kinder than the figures above. `training-log.jsonl` has every line of it.

## Limits

- Of a card that lies on its side {turned:.0%} of the fields are read right, and {invented:.0%} of the values that are
  covered or cut off are filled in all the same.
- Specimens of this repository's renderer only. Another layout, another script or handwriting was never seen.
- It knows the prompt of `/ktp-ocr/` alone. Every other message, with a picture or without, is to be answered with one
  sentence that says what it is.
- It reads about 512×320 pixels, whatever is sent: what cannot be read at that size is not read.
- Nothing in it keeps it from writing a wrong value with confidence; the checks and a person's eye stay necessary.
"""


def write(folder: Path, *, command: str) -> None:
    """Write README.md and curve.png into ``folder``; ``command`` is how the run was started, in Markdown.

    Of ``evaluation.json`` the figures stay; where the pictures lay and what was said of each one goes.
    """
    training = json.loads((folder / "training.json").read_text())
    evaluation = json.loads((folder / "evaluation.json").read_text())
    evaluation.pop("pictures", None)
    evaluation["folder"] = Path(evaluation["folder"]).name
    (folder / "evaluation.json").write_text(json.dumps(evaluation, indent=1) + "\n")
    last = read_log(folder / "training-log.jsonl")[-1]
    found = evaluation["all"]
    plot(folder / "training-log.jsonl", folder / "curve.png")
    text = TEXT.format(
        weights=training["weights"] / 1e6,
        pictures=evaluation["planned"],
        reader=evaluation["reader"],
        overall="\n".join(_overall(found)),
        cer=found["cer"],
        anls=found["anls_star"],
        p50=found["p50"],
        p95=found["p95"],
        conditions="\n".join(_by_condition(evaluation["by_condition"])),
        fields=", ".join(f"{path} {rate['share']:.1%}" for path, rate in found["exact_by_field"].items()),
        cards=last["cards"],
        pages=last["pages"],
        hours=training["hours"],
        steps=training["steps"],
        seed=training["seed"],
        size=training["size"],
        command=command,
        turned=evaluation["by_condition"]["quarter_turn"]["field_exact"]["share"],
        invented=found["invented"]["share"],
    )
    (folder / "README.md").write_text(text)


def _overall(found: dict[str, Any]) -> Iterator[str]:
    yield "| | share | 95% | of |"
    yield "|---|---|---|---|"
    for name, label in RATES.items():
        rate = found[name]
        if rate["of"]:
            yield f"| {label} | {rate['share']:.1%} | {_interval(rate)} | {rate['hits']} of {rate['of']} |"


def _by_condition(groups: dict[str, Any]) -> Iterator[str]:
    yield "| condition | n | " + " | ".join(RATES[name].lower() for name in BY_CONDITION) + " |"
    yield "|---" * (2 + len(BY_CONDITION)) + "|"
    for condition, found in groups.items():
        if found["cards"]:
            cells = (f"{found[name]['share']:.1%} ({_interval(found[name])})" for name in BY_CONDITION)
            yield f"| {condition} | {found['cards']} | {' | '.join(cells)} |"


def _interval(rate: dict[str, Any]) -> str:
    return f"{100 * rate['low']:.1f}–{100 * rate['high']:.1f}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m training.model_card", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--command", required=True, help="how the run was started, in Markdown")
    options = parser.parse_args()
    write(options.folder, command=options.command)
