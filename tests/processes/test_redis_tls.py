"""Redis with TLS and a password: broker and wake-ups read the same address by the same rules."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import logging
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from django.conf import settings
from kombu import Connection, Consumer, Exchange, Producer, Queue

from sessions_app.wakeups import RedisTransport, Wakeup
from tests.live.stack import ROOT, free_port

PASSWORD = "p@ss:w/rd;+%"
QUOTED = "p%40ss%3Aw%2Frd%3B%2B%25"
DEADLINE_SECONDS = 10.0
DEPLOYMENT = ROOT / "docs" / "deployment.md"

pytestmark = pytest.mark.skipif(shutil.which("redis-server") is None, reason="no redis-server on the PATH")


def write_certificate(folder: Path) -> None:
    """One that signs itself, for 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "redis for tests")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "server.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "server.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a server that takes TLS and nothing else; without the certificate to trust."""
    folder = tmp_path_factory.mktemp("redis")
    write_certificate(folder)
    port = free_port()
    options = {
        "port": "0",
        "tls-port": str(port),
        "bind": "127.0.0.1",
        "tls-cert-file": str(folder / "server.crt"),
        "tls-key-file": str(folder / "server.key"),
        "tls-auth-clients": "no",
        "requirepass": PASSWORD,
        "save": "",
        "dir": str(folder),
    }
    arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
    server = subprocess.Popen(["redis-server", *arguments], stdout=subprocess.DEVNULL)
    url = f"rediss://:{QUOTED}@127.0.0.1:{port}/1"
    try:
        with redis.Redis.from_url(url, ssl_ca_certs=str(folder / "server.crt")) as client:
            end = time.monotonic() + DEADLINE_SECONDS
            while True:
                try:
                    client.ping()
                    break
                except redis.ConnectionError:
                    assert time.monotonic() < end
                    time.sleep(0.05)
        yield f"{url}?ssl_ca_certs={folder / 'server.crt'}"
    finally:
        server.terminate()
        server.wait(DEADLINE_SECONDS)


def broker(monkeypatch: pytest.MonkeyPatch, address: str) -> Connection:
    monkeypatch.setattr(settings, "REDIS_URL", address)
    return Connection("redis://", transport="sessions_app.broker:RedisTransport")


async def heard_at(address: str, *, seconds: float) -> list[Wakeup]:
    """What a subscriber hears of what is published meanwhile, both at this address."""
    transport = RedisTransport(address)
    heard: list[Wakeup] = []
    receiving = asyncio.create_task(transport.receive(heard.extend))
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while not heard:
                await asyncio.to_thread(transport.publish, [Wakeup("a", 1)])
                await asyncio.sleep(0.05)
    receiving.cancel()
    await asyncio.gather(receiving, return_exceptions=True)
    transport._publisher.close()
    return heard


def test_the_options_of_the_address_reach_the_broker(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with broker(monkeypatch, address) as connection, connection.SimpleQueue("tls") as queue:
        queue.put("hello")
        assert queue.get(timeout=DEADLINE_SECONDS).payload == "hello"


def test_the_options_of_the_address_reach_the_wake_ups(address: str) -> None:
    assert asyncio.run(heard_at(address, seconds=DEADLINE_SECONDS))[0] == Wakeup("a", 1)


def test_the_rights_that_the_readme_names_are_enough(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rights = "+@connection +lpush +brpop +rpop +publish +subscribe"
    assert f"`{rights}`" in DEPLOYMENT.read_text()
    with redis.Redis.from_url(address) as admin:
        user = ["on", f">{PASSWORD}", "resetchannels", "~generate", "&sambung:chunks:*", *rights.split()]
        admin.execute_command("ACL", "SETUSER", "sambung", *user)
    limited = address.replace("://:", "://sambung:")
    queue = Queue("generate", Exchange("generate"), routing_key="generate")
    with broker(monkeypatch, limited) as connection:
        Producer(connection.default_channel).publish({"n": 1}, routing_key="generate", declare=[queue])
        bodies: list[object] = []
        with Consumer(connection.default_channel, [queue], callbacks=[lambda body, message: bodies.append(body)]):
            connection.drain_events(timeout=DEADLINE_SECONDS)
    assert bodies == [{"n": 1}]
    assert asyncio.run(heard_at(limited, seconds=DEADLINE_SECONDS))[0] == Wakeup("a", 1)


@pytest.mark.parametrize("wrong", ["untrusted", "password", "plain"])
def test_who_does_not_prove_itself_is_not_talked_to_and_no_log_tells_the_password(
    wrong: str, address: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    changed = {
        "untrusted": address.partition("?")[0],
        "password": address.replace(QUOTED, QUOTED + "x"),
        "plain": address.partition("?")[0].replace("rediss", "redis"),
    }[wrong]
    with caplog.at_level(logging.DEBUG), caplog.at_level(logging.DEBUG, "sessions_app"):
        with pytest.raises((redis.RedisError, OSError)) as raised, broker(monkeypatch, changed) as connection:
            connection.connect()
        assert asyncio.run(heard_at(changed, seconds=1)) == []
    said = caplog.text + str(raised.value) + repr(raised.value)
    assert "wake-up" in caplog.text
    assert "p@ss" not in said
    assert QUOTED not in said
