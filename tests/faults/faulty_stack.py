"""A scaled server behind proxies that its user may cut. The chaos benchmark uses it too, so it needs no pytest."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from tests import services
from tests.faults.proxy import Proxy
from tests.live.stack import ScaledStack


class FaultyStack(ScaledStack):
    """Its processes reach PostgreSQL and Redis through proxies; the test itself goes straight to them."""

    def __init__(
        self, folder: Path, model: Path, *, redis_url: str, database: Proxy, broker: Proxy, **settings: object
    ) -> None:
        super().__init__(folder, model, postgres_url=services.POSTGRES_URL, redis_url=redis_url, **settings)
        self.database = database
        self.broker = broker
        self.env["DATABASE_URL"] = through(self.env["DATABASE_URL"], database)
        self.env["REDIS_URL"] = through(self.env["REDIS_URL"], broker)


def through(url: str, proxy: Proxy) -> str:
    parts = urlsplit(url)
    user = f"{parts.username}@" if parts.username else ""
    return parts._replace(netloc=f"{user}127.0.0.1:{proxy.port}").geturl()
