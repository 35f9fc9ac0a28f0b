"""The answer to Prometheus: the metrics of this process, or with ``METRICS_DIR`` of all processes of this host."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from django.conf import settings
from django.http.request import split_domain_port
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import Metric

from sessions_app.metric_files import read_files
from sessions_app.metrics import REGISTRY


class _Scrape:
    """A registry as ``prometheus_client`` expects it."""

    def __init__(self, facts: Iterable[Metric]) -> None:
        self._facts = facts

    def collect(self) -> Iterator[Metric]:
        if settings.METRICS_DIR:
            yield from read_files(Path(settings.METRICS_DIR))
        else:
            yield from REGISTRY.collect()
        yield from self._facts


#: the text format, which every Prometheus accepts. Not OpenMetrics, which Prometheus prefers: there
#: ``prometheus_client`` 0.26 replaces the colon of a name by an underscore in the samples, but not in their help
CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4


def exposition(facts: Sequence[Metric] = ()) -> bytes:
    """The body of an answer of ``CONTENT_TYPE``; ``facts`` are shown beside what was counted.

    It takes milliseconds, and with ``METRICS_DIR`` reads files: not for the event loop.
    """
    return generate_latest(_Scrape(facts))


def is_right_token(authorization: str) -> bool:
    """Whether the header carries ``METRICS_TOKEN``, which is set."""
    scheme, _, given = authorization.partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), settings.METRICS_TOKEN.encode())


def is_called_by_address(host: str) -> bool:
    """Whether the ``Host`` header is an IP address, so that no other site's host name was used (DNS rebinding)."""
    name, _ = split_domain_port(host)
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def is_allowed_address(address: str) -> bool:
    """Whether the client may read without a token: from this machine, or from ``METRICS_ALLOWED_NETWORKS``."""
    try:
        client = ipaddress.ip_address(address)
    except ValueError:
        return False
    networks = map(ipaddress.ip_network, settings.METRICS_ALLOWED_NETWORKS)
    return client.is_loopback or any(client in network for network in networks)
