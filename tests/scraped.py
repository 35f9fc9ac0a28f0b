"""What Prometheus would read, parsed by the parser of its own client."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client.parser import text_string_to_metric_families

from sessions_app.scraping import exposition


class Scraped(dict[str, float]):
    """Sample → value. A sample is named as Prometheus writes it: ``name{label="value"}``; what is not there is 0."""

    def __missing__(self, sample: str) -> float:
        return 0.0

    @property
    def names(self) -> set[str]:
        return {sample.partition("{")[0] for sample in self}

    def sum(self, name: str) -> float:
        """Over all labels."""
        return sum(value for sample, value in self.items() if sample.partition("{")[0] == name)


def parsed(text: str) -> Scraped:
    found = Scraped()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def scrape() -> Scraped:
    """Of this process."""
    return parsed(exposition().decode())


@contextmanager
def moved() -> Iterator[Scraped]:
    """By how much each sample of this process has moved inside; it is filled in at the end."""
    before, change = scrape(), Scraped()
    yield change
    for sample, value in scrape().items():
        if value != before[sample]:
            change[sample] = value - before[sample]
