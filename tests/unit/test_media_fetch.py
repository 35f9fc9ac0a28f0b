"""Fetching media: from servers on this machine, from the request, from a folder, from nowhere else."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime
import ipaddress
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from django.test import override_settings
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.errors import InvalidMedia
from inference.media.addresses import is_public
from inference.media.fetch import fetch, fetch_all
from inference.media.lookups import resolve_host
from inference.media.network import PacedStream
from inference.media.parts import MediaSource, Origin
from inference.media.special_networks import IPV4_NETWORKS, IPV6_NETWORKS, METADATA_NETWORKS
from tests.media_samples import image_bytes

PART = "messages[0].content[1]"
PNG = image_bytes()
here = override_settings(MEDIA_ALLOW_PRIVATE_HOSTS=True)


class Site(ThreadingHTTPServer):
    """A web server on this machine. What it was asked for is kept as (path, Host header)."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Page)
        self.asked: list[tuple[str, str]] = []
        self.closing = threading.Event()
        self.pages: dict[str, Callable[[Page], None]] = {}

    @property
    def port(self) -> int:
        return self.server_address[1]

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"


class Page(BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers["Host"]))
        page = self.server.pages.get(self.path)
        if page is None:
            self.answer(404)
        else:
            page(self)

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content_Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


@pytest.fixture
def site() -> Iterator[Site]:
    server = Site()
    server.pages["/cat.png"] = lambda page: page.answer(200, PNG)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.closing.set()
    server.shutdown()
    thread.join()
    server.server_close()


def get(reference: str, origin: Origin = "url", **options: Any) -> bytes:
    return asyncio.run(fetch(MediaSource("image", PART, reference, origin), **options))


def refusal(reference: str, origin: Origin = "url", **options: Any) -> str:
    with pytest.raises(InvalidMedia) as caught:
        get(reference, origin, **options)
    assert (caught.value.status, caught.value.param) == (400, PART)
    message = caught.value.message
    assert "127.0.0.1" not in message
    assert "Error" not in message
    return message


class Names:
    """A name server whose answers are used up one by one; the last one stays."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.questions: list[str] = []

    async def __call__(self, host: str, port: int) -> list[str]:
        self.questions.append(host)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


# --- over HTTP


@here
def test_a_url_is_fetched(site: Site) -> None:
    assert get(site.url("/cat.png?size=1#top")[:-11]) == PNG
    assert site.asked == [("/cat.png", f"127.0.0.1:{site.port}")]


@here
def test_a_body_without_a_length_is_read_to_its_end(site: Site) -> None:
    def stream(page: Page) -> None:
        page.send_response(200)
        page.end_headers()
        page.wfile.write(PNG)

    site.pages["/stream"] = stream
    assert get(site.url("/stream")) == PNG


@here
def test_three_redirects_are_followed_and_the_fourth_is_refused(site: Site) -> None:
    for n in range(4):
        target = f"/hop{n - 1}" if n else "cat.png"
        site.pages[f"/hop{n}"] = partial(Page.answer, status=302, Location=target)
    assert get(site.url("/hop2")) == PNG
    assert "more than 3 times" in refusal(site.url("/hop3"))


@here
@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("file:///etc/hostname", "Only http and https"),
        ("ftp://pictures.example/cat.png", "Only http and https"),
        ("http://user:secret@pictures.example/", "user name or password"),
        ("http://[broken/", "not found"),
        ("http://127.0.0.1:99999/", "port must be"),
        ("", "has no target"),
        ("javascript:1", "Only http and https"),
        ("data:", "Only http and https"),
        ("data:image/png;base64,AAAA", "Only http and https"),
        ("mailto:a@b", "Only http and https"),
        ("http:host", "status 404"),
        ("https:", "names no host"),
        ("http://pictures.example:port/", "malformed"),
        ("http://" + "a" * 66_000, "malformed"),
        ("http://[fe80::1%25eth0]/", "not found"),
        ("http://.example/", "not found"),
    ],
)
def test_a_redirect_is_checked_like_the_first_url(site: Site, location: str, words: str) -> None:
    site.pages["/away"] = lambda page: page.answer(301, Location=location)
    assert words in refusal(site.url("/away"))


@here
def test_a_domain_of_emoji_is_asked_like_any_other(site: Site) -> None:
    names = Names(["127.0.0.1"])
    for host in ("xn--i-7iq.ws", "xn--ls8h.la", "xn--a", "b\N{LATIN SMALL LETTER U WITH DIAERESIS}cher.example"):
        assert get(f"http://{host}:{site.port}/cat.png", resolve=names) == PNG
    assert names.questions == ["xn--i-7iq.ws", "xn--ls8h.la", "xn--a", "xn--bcher-kva.example"]


@here
@pytest.mark.parametrize("status", [401, 404, 500, 304])
def test_an_answer_other_than_success_is_refused_with_its_status(site: Site, status: int) -> None:
    site.pages["/bad"] = lambda page: page.answer(status)
    assert f"status {status}" in refusal(site.url("/bad"))


@here
def test_a_file_over_the_limit_is_refused_by_its_announced_length_and_by_its_real_one(site: Site) -> None:
    sent: list[int] = []

    def endless(page: Page) -> None:
        page.send_response(200)
        page.end_headers()
        try:
            for _ in range(10_000):
                sent.append(page.wfile.write(bytes(10_000)))
        except OSError:  # the client has hung up
            pass

    site.pages["/announced"] = lambda page: page.answer(200, bytes(2000))
    site.pages["/endless"] = endless
    with override_settings(MAX_IMAGE_BYTES=1999):
        assert "limit of 1999 bytes" in refusal(site.url("/announced"))
        assert "limit of 1999 bytes" in refusal(site.url("/endless"))
    with override_settings(MAX_IMAGE_BYTES=2000):
        assert len(get(site.url("/announced"))) == 2000


@here
def test_a_compressed_body_is_refused_unread(site: Site) -> None:
    site.pages["/packed"] = lambda page: page.answer(200, b"x", Content_Encoding="gzip")
    assert "compressed" in refusal(site.url("/packed"))


@here
def test_a_connection_that_breaks_off_is_refused(site: Site) -> None:
    site.pages["/short"] = lambda page: page.answer(200, PNG[:20], Content_Length=str(len(PNG)))
    assert "closed before the whole file" in refusal(site.url("/short"))


@here
@override_settings(MEDIA_FETCH_TIMEOUT_SECONDS=0.3)
def test_a_server_that_drips_is_cut_off_at_the_deadline(site: Site) -> None:
    def drip(page: Page) -> None:
        page.send_response(200)
        page.end_headers()
        while not page.server.closing.wait(0.05):
            try:
                page.wfile.write(b"x")
            except OSError:
                return

    site.pages["/drip"] = drip
    assert "longer than 0.3 seconds" in refusal(site.url("/drip"))


@here
def test_a_server_that_sends_a_byte_at_a_time_is_read_a_few_times_only(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[int] = []
    read = PacedStream.read

    async def count(stream: PacedStream, *args: Any, **options: Any) -> bytes:
        data = await read(stream, *args, **options)
        reads.append(len(data))
        return data

    def byte_by_byte(page: Page) -> None:
        page.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        head = b"HTTP/1.0 200 OK\r\nX: " + b"x" * 3000 + b"\r\n\r\n"
        for n in (*head, *bytes(20_000)):
            page.connection.send(bytes([n]))

    monkeypatch.setattr(PacedStream, "read", count)
    site.pages["/bytes"] = byte_by_byte
    assert get(site.url("/bytes")) == bytes(20_000)
    # 23,000 sends; what came meanwhile is read together.
    assert len(reads) < 2300


@here
def test_a_server_that_stays_slow_is_given_up_before_the_deadline(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def drip(page: Page) -> None:
        page.send_response(200)
        page.end_headers()
        while not page.server.closing.wait(0.05):
            try:
                page.wfile.write(b"x")
            except OSError:
                return

    site.pages["/drip"] = drip
    monkeypatch.setattr("inference.media.fetch.SLOW_AFTER_SECONDS", 0.2)
    assert "less than 8192 bytes a second" in refusal(site.url("/drip"))


@here
@override_settings(MEDIA_FETCH_TIMEOUT_SECONDS=0.2)
def test_a_name_server_that_does_not_answer_counts_towards_the_deadline() -> None:
    async def silence(host: str, port: int) -> list[str]:
        await asyncio.Event().wait()
        return []

    assert "longer than 0.2 seconds" in refusal("http://pictures.example/", resolve=silence)


@here
def test_a_host_that_refuses_or_does_not_speak_http_is_refused() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        assert "could not be reached" in refusal(f"http://127.0.0.1:{closed.getsockname()[1]}/")
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"220 mail ready\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        assert "did not answer as a web server" in refusal(f"http://127.0.0.1:{server.getsockname()[1]}/")
        thread.join()


# --- where it must not go


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "2130706433",
        "0x7f000001",
        "127.1",
        "0.0.0.0",  # noqa: S104 - asked for, not bound to
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:a00:1]",
        "[64:ff9b::7f00:1]",
        "10.0.0.1",
        "169.254.169.254",
        "[fe80::1]",
    ],
)
def test_the_servers_own_network_is_not_asked(site: Site, host: str) -> None:
    message = refusal(f"http://{host}:{site.port}/cat.png")
    assert "not on the public internet" in message or "not found" in message
    assert site.asked == []


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700:4700::1111", True),
        ("::ffff:8.8.8.8", True),
        ("64:ff9b::808:808", True),
        ("127.0.0.1", False),
        ("100.64.0.1", False),
        ("192.168.1.1", False),
        ("224.0.0.1", False),
        ("240.0.0.1", False),
        ("255.255.255.255", False),
        ("::", False),
        ("::1", False),
        ("::7f00:1", False),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::a9fe:a9fe", False),
        ("2002:7f00:1::", False),
        ("2001:0:7f00:1::", False),
        ("fc00::1", False),
        ("fe80::1%eth0", False),
        ("fec0::1", False),
        ("ff02::1", False),
        ("not an address", False),
        ("168.63.129.16", False),
        ("100.100.100.200", False),
        ("169.254.170.2", False),
        ("192.0.0.9", False),
        ("192.0.0.192", False),
        ("192.88.99.1", False),
        ("fd00:ec2::254", False),
        ("2002:808:808::1", True),
        ("2001:0:808:808::f7f7:f7f7", True),
        ("2001:0:808:808::80ff:fffe", False),
        ("2606:4700::5efe:808:808", True),
        ("2606:4700::5efe:7f00:1", False),
        ("2606:4700::200:5efe:a00:1", False),
        ("fe80::5efe:808:808", False),
        ("2002:808:808::5efe:a00:1", False),
        ("::ffff:0:808:808", False),
        ("::ffff:168.63.129.16", False),
        ("64:ff9b::a83f:8110", False),
        ("64:ff9b:1::808:808", False),
        ("2606:4700:4700::1111%eth0", False),
        ("2001:4860:4860::8888", True),
        ("4000::1", False),
    ],
)
def test_only_addresses_of_the_public_internet_count_as_public(address: str, public: bool) -> None:
    assert is_public(address) is public


@pytest.mark.parametrize("network", [*IPV4_NETWORKS, *IPV6_NETWORKS, *METADATA_NETWORKS])
def test_no_address_of_a_network_in_the_tables_counts_as_public(network: str) -> None:
    addresses = ipaddress.ip_network(network)
    middle = addresses.network_address + addresses.num_addresses // 2
    for address in (addresses.network_address, middle, addresses.broadcast_address):
        assert not is_public(str(address))
        if address.version == 4:
            for hiding in ("::ffff:0:0", "64:ff9b::", "64:ff9b:1::", "::", "::ffff:0:0:0", "2606:4700::5efe:0:0"):
                assert not is_public(str(ipaddress.IPv6Address(hiding) + int(address))), hiding
            assert not is_public(str(ipaddress.IPv6Address((0x2002 << 112) + (int(address) << 80) + 1)))
            server, mask = 0x08080808 << 64, 0xFFFFFFFF
            assert not is_public(str(ipaddress.IPv6Address((0x20010000 << 96) + server + (int(address) ^ mask))))


@pytest.mark.parametrize(
    "host",
    [
        "metadata.google.internal",
        "METADATA.Google.Internal.",
        "metadata.platformequinix.com",
        "instance-data",
        "vault.service.internal",
        "printer.local",
        "app.localhost",
        "router.home.arpa",
        "intranet",
    ],
)
def test_a_name_that_is_not_of_the_public_internet_is_not_looked_up(host: str) -> None:
    names = Names(["8.8.8.8"])
    assert "not on the public internet" in refusal(f"http://{host}/cat.png", resolve=names)
    assert names.questions == []


@here
@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("pictures.example", "168.63.129.16"),
        ("pictures.example", "169.254.169.254"),
        ("pictures.example", "100.100.100.200"),
        ("pictures.example", "192.0.0.192"),
        ("pictures.example", "fd00:ec2::254"),
        ("pictures.example", "::ffff:169.254.170.2"),
        ("pictures.example", "64:ff9b:1::a9fe:a9fe"),
        ("pictures.example", "::a9fe:a9fe"),
        ("pictures.example", "fe80::a9fe:a9fe%eth0"),
        ("metadata.google.internal", "10.0.0.1"),
        ("metadata", "10.0.0.1"),
    ],
)
def test_a_clouds_metadata_are_refused_where_private_hosts_are_allowed(host: str, address: str) -> None:
    assert "not on the public internet" in refusal(f"http://{host}/", resolve=Names([address]))


@here
@override_settings(MEDIA_ALLOWED_HOSTS=["pictures.example", ".example.org"])
def test_only_hosts_of_the_list_are_fetched_from_if_there_is_one(site: Site) -> None:
    for host in ("pictures.example", "PICTURES.example.", "example.org", "a.b.example.org"):
        assert get(f"http://{host}:{site.port}/cat.png", resolve=Names(["127.0.0.1"])) == PNG
    asked = len(site.asked)
    for host in ("others.example", "a.pictures.example", "badexample.org", "example.org.evil.example", "127.0.0.1"):
        names = Names(["127.0.0.1"])
        assert "MEDIA_ALLOWED_HOSTS" in refusal(f"http://{host}:{site.port}/cat.png", resolve=names)
        assert names.questions == []
    assert len(site.asked) == asked


@here
@override_settings(MEDIA_ALLOWED_HOSTS=["pictures.example"])
def test_a_redirect_to_a_host_that_is_not_on_the_list_is_refused(site: Site) -> None:
    site.pages["/away"] = lambda page: page.answer(302, Location=f"http://others.example:{site.port}/cat.png")
    names = Names(["127.0.0.1"])
    assert "MEDIA_ALLOWED_HOSTS" in refusal(f"http://pictures.example:{site.port}/away", resolve=names)
    assert names.questions == ["pictures.example"]
    assert [path for path, _ in site.asked] == ["/away"]


@override_settings(MEDIA_ALLOWED_HOSTS=["pictures.example"])
def test_the_list_makes_no_private_host_public() -> None:
    assert "public internet" in refusal("http://pictures.example/cat.png", resolve=Names(["10.0.0.1"]))


def test_one_private_address_among_public_ones_condemns_the_host(site: Site) -> None:
    url = f"http://pictures.example:{site.port}/cat.png"
    assert "not on the public internet" in refusal(url, resolve=Names(["93.184.215.14", "127.0.0.1"]))
    assert site.asked == []


def test_a_redirect_to_a_private_address_is_refused(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.pages["/away"] = lambda page: page.answer(302, Location="http://inside.example/cat.png")
    # The test's own server stands for a public one; the redirect's target is private by every measure.
    monkeypatch.setattr(
        "inference.media.destinations.is_public", lambda address: address == "127.0.0.1" or is_public(address)
    )
    names = Names(["127.0.0.1"], ["10.0.0.1"])
    url = f"http://pictures.example:{site.port}/away"
    assert "not on the public internet" in refusal(url, resolve=names)
    assert names.questions == ["pictures.example", "inside.example"]
    assert [path for path, _ in site.asked] == ["/away"]


@here
def test_the_connection_goes_to_the_address_that_was_checked(site: Site) -> None:
    names = Names(["127.0.0.1"], ["203.0.113.1"])
    assert get(f"http://pictures.example:{site.port}/cat.png", resolve=names) == PNG
    assert names.questions == ["pictures.example"]
    assert site.asked == [("/cat.png", f"pictures.example:{site.port}")]


@here
def test_a_host_with_several_addresses_is_reached_at_the_one_that_works(site: Site) -> None:
    names = Names(["::1", "127.0.0.1"])
    assert get(f"http://pictures.example:{site.port}/cat.png", resolve=names) == PNG


@here
def test_proxies_of_the_environment_are_not_used(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    assert get(site.url("/cat.png")) == PNG


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://user:secret@pictures.example/cat.png", "user name or password"),
        ("http:///cat.png", "names no host"),
        ("http://127.0.0.1:99999/", "port must be"),
        ("http://exa mple.org/", "malformed"),
        ("http://nowhere.invalid/cat.png", "not found"),
        (f"http://{'a' * 70}.example/", "not found"),
        ("http://a..example/", "malformed"),
    ],
)
def test_a_url_that_cannot_be_asked_for_is_refused(url: str, words: str) -> None:
    message = refusal(url)
    assert words in message or "not found" in message
    assert "secret" not in message


def test_the_systems_resolver_gives_each_address_once() -> None:
    addresses = asyncio.run(resolve_host("localhost", 80))
    assert set(addresses) <= {"127.0.0.1", "::1"}
    assert len(addresses) == len(set(addresses)) > 0


@pytest.fixture
def dead_names(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Names under dead.example have a name server that never answers, until the event is set."""
    over = threading.Event()
    ask = socket.getaddrinfo

    def lookup(host: str, *args: Any, **options: Any) -> Any:
        if host.endswith("dead.example"):
            over.wait(30)
            raise OSError("timed out")
        return ask(host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    monkeypatch.setattr("inference.media.lookups.LOOKUP_SECONDS", 0.3)
    yield over
    over.set()


def test_names_that_never_resolve_hold_up_nobody_but_their_caller(dead_names: threading.Event) -> None:
    async def flood() -> list[str]:
        dead = [asyncio.create_task(resolve_host(f"{n}.dead.example", 80, caller="greedy")) for n in range(50)]
        await asyncio.sleep(0)
        found = await resolve_host("localhost", 80, caller="other")
        assert not any(task.done() for task in dead)
        for end in await asyncio.gather(*dead, return_exceptions=True):
            assert isinstance(end, TimeoutError)
        # The threads of the greedy one are still waiting for their answers, and so is it.
        with pytest.raises(TimeoutError):
            await resolve_host("localhost", 80, caller="greedy")
        return found

    assert asyncio.run(flood())
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("media-dns")]
    assert len(threads) == 4
    dead_names.set()
    for thread in threads:
        thread.join(10)
    assert asyncio.run(resolve_host("localhost", 80, caller="greedy"))


@here
def test_a_name_that_never_resolves_is_not_found(dead_names: threading.Event) -> None:
    assert "not found" in refusal("http://www.dead.example/cat.png")


# --- whatever a URL may be made of

PIECES = st.one_of(
    st.sampled_from("/?#@:[]%.\\-_~ \t\n\r\0\x7f\N{SNOWMAN}\N{FULLWIDTH FULL STOP}\N{ZERO WIDTH JOINER}\ud800\udcff"),
    st.sampled_from(["//", "://", "http", "https", "data:", "javascript:", "xn--", "xn--a", "%25", "%ff", "%00"]),
    st.sampled_from(["127.0.0.1", "::1", "fe80::1%eth0", "[::ffff:127.0.0.1]", "0x7f", "a" * 64]),
    st.sampled_from(["user:secret@", ":0", ":80", ":65536", ":-1", ":99999999999999999999"]),
    st.text(max_size=5),
)
URLS = st.lists(PIECES, max_size=12).map("".join)


@settings(max_examples=300, deadline=None)
@given(rest=URLS, prefix=st.sampled_from(["http://", "https://", "http:", ""]))
def test_no_text_of_a_url_gives_anything_but_a_refusal(rest: str, prefix: str) -> None:
    with override_settings(MEDIA_FETCH_TIMEOUT_SECONDS=5), pytest.raises(InvalidMedia):
        get(prefix + rest, resolve=Names(["192.0.2.1"]))
    # Nothing listens there, so a URL that can be asked for is refused for that.
    with here, override_settings(MEDIA_FETCH_TIMEOUT_SECONDS=5), pytest.raises(InvalidMedia):
        get(prefix + rest, resolve=Names(["127.0.0.1"]))


class Redirector:
    """A server whose every answer is a redirect to ``location``."""

    def __init__(self) -> None:
        self.location = b""
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.recv(70_000)
                connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: " + self.location + b"\r\n\r\n")

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join(5)


@pytest.fixture(scope="module")
def redirector() -> Iterator[Redirector]:
    server = Redirector()
    yield server
    server.close()


@given(location=st.one_of(st.binary(max_size=60), URLS.map(lambda text: text.encode("utf-8", "surrogatepass"))))
@settings(max_examples=200, deadline=None)
def test_no_redirect_gives_anything_but_a_refusal(redirector: Redirector, location: bytes) -> None:
    redirector.location = location
    with here, override_settings(MEDIA_FETCH_TIMEOUT_SECONDS=5), pytest.raises(InvalidMedia):
        get(f"http://pictures.example:{redirector.port}/", resolve=Names(["127.0.0.1"]))


# --- over TLS


@pytest.fixture
def secure_site(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """The site over TLS, with a certificate for pictures.example that the client trusts."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pictures.example")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("pictures.example")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    pem = tmp_path / "certificate.pem"
    pem.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    site.socket = context.wrap_socket(site.socket, server_side=True)
    monkeypatch.setattr("inference.media.destinations._tls", lambda: ssl.create_default_context(cafile=pem))
    return site


@here
def test_the_certificate_is_checked_against_the_name_though_the_connection_goes_to_the_address(
    secure_site: Site,
) -> None:
    names = Names(["127.0.0.1"])
    assert get(f"https://pictures.example:{secure_site.port}/cat.png", resolve=names) == PNG
    assert secure_site.asked == [("/cat.png", f"pictures.example:{secure_site.port}")]
    assert "certificate" in refusal(f"https://others.example:{secure_site.port}/cat.png", resolve=names)
    assert len(secure_site.asked) == 1


# --- in the request itself


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        (base64.b64encode(PNG).decode(), "base64"),
        (base64.urlsafe_b64encode(PNG).decode(), "base64"),
        (base64.b64encode(PNG).decode().rstrip("="), "base64"),
        (base64.encodebytes(PNG).decode().replace("\n", "\r\n "), "base64"),
        ("data:image/png;base64," + base64.b64encode(PNG).decode(), "data"),
        ("data:;base64," + base64.b64encode(PNG).decode(), "data"),
        ("DATA:image/png;charset=utf-8;BASE64," + base64.b64encode(PNG).decode(), "data"),
        ("data:image/png;base64," + quote(base64.b64encode(PNG), safe=""), "data"),
    ],
)
def test_every_spelling_of_base64_is_decoded(text: str, origin: Origin) -> None:
    assert get(text, origin) == PNG


@pytest.mark.parametrize(
    ("text", "origin", "words"),
    [
        ("", "base64", "empty"),
        ("====", "base64", "empty"),
        ("AAAAA", "base64", "not valid base64"),
        ("AA!A", "base64", "not valid base64"),
        ("AAé=", "base64", "not valid base64"),
        ("AA=A", "base64", "not valid base64"),
        ("AAAA====", "base64", "not valid base64"),
        ("data:image/png;base64", "data", "form data:"),
        ("data:image/png,abc", "data", "form data:"),
        ("data:image/png;base64,", "data", "empty"),
        ("data:image/png;base64,!!!!", "data", "not valid base64"),
    ],
)
def test_anything_else_is_refused(text: str, origin: Origin, words: str) -> None:
    assert words in refusal(text, origin)


@override_settings(MAX_IMAGE_BYTES=300)
def test_base64_is_held_to_the_limit_in_decoded_bytes() -> None:
    assert len(get(base64.b64encode(bytes(300)).decode(), "base64")) == 300
    assert "limit of 300 bytes" in refusal(base64.b64encode(bytes(301)).decode(), "base64")
    # Too large and malformed: the size is what is looked at first.
    assert "limit of 300 bytes" in refusal("!" * 500, "base64")


# --- from the server's disk


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    root = tmp_path / "media"
    (root / "sub folder").mkdir(parents=True)
    (root / "cat.png").write_bytes(PNG)
    (root / "sub folder" / "dog.png").write_bytes(PNG)
    (tmp_path / "secret.png").write_bytes(PNG)
    (tmp_path / "media-secret").mkdir()
    (tmp_path / "media-secret" / "cat.png").write_bytes(PNG)
    (root / "escape.png").symlink_to(tmp_path / "secret.png")
    (root / "up").symlink_to(tmp_path)
    (root / "inside.png").symlink_to(root / "cat.png")
    (root / "loop").symlink_to(root / "loop")
    with override_settings(MEDIA_LOCAL_ROOT=str(root)):
        yield root


def test_files_inside_the_folder_are_read(folder: Path) -> None:
    for reference in (
        "cat.png",
        str(folder / "cat.png"),
        f"file://{folder}/cat.png",
        f"file://localhost{folder}/cat.png",
        f"file://{folder}/sub%20folder/dog.png",
        "sub folder/../cat.png",
        "inside.png",
    ):
        assert get(reference, "path") == PNG


@pytest.mark.parametrize(
    "reference",
    [
        "../secret.png",
        "../nothing.png",
        "escape.png",
        "up/secret.png",
        "../media-secret/cat.png",
        "/etc/hostname",
        "file:///etc/hostname",
        "file:///etc/no-such-file",
        "sub folder/../../secret.png",
    ],
)
def test_paths_that_lead_out_of_the_folder_are_refused(folder: Path, reference: str) -> None:
    message = refusal(reference, "path")
    assert "outside the folder" in message
    assert str(folder) not in message


def test_encoded_dots_lead_out_no_more_than_plain_ones(folder: Path) -> None:
    assert "outside the folder" in refusal(f"file://{folder}/%2e%2e/secret.png", "path")


@pytest.mark.parametrize("reference", ["nothing.png", "sub folder", "", "loop", "cat.png\0", "a" * 5000])
def test_what_is_no_file_is_refused(folder: Path, reference: str) -> None:
    assert "no readable file" in refusal(reference, "path")


def test_a_pipe_is_refused_without_waiting_for_a_writer(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    assert "no readable file" in refusal("pipe", "path")


def test_a_file_url_of_another_host_is_refused(folder: Path) -> None:
    assert "must name no host" in refusal("file://elsewhere/cat.png", "path")


def test_a_local_file_over_the_limit_is_refused(folder: Path) -> None:
    with override_settings(MAX_IMAGE_BYTES=len(PNG) - 1):
        assert "larger than the limit" in refusal("cat.png", "path")


def test_without_a_folder_no_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "cat.png").write_bytes(PNG)
    for reference in (str(tmp_path / "cat.png"), f"file://{tmp_path}/cat.png", "cat.png", "/etc/hostname"):
        assert "cannot be read" in refusal(reference, "path")


# --- several at once


def sources(*references: tuple[str, Origin]) -> list[MediaSource]:
    return [MediaSource("image", f"messages[0].content[{n}]", r, o) for n, (r, o) in enumerate(references)]


@here
def test_several_sources_come_back_in_order(site: Site) -> None:
    for n in range(10):
        site.pages[f"/{n}"] = partial(Page.answer, status=200, body=b"%d" % n)
    urls: list[tuple[str, Origin]] = [(site.url(f"/{n}"), "url") for n in range(10)]
    assert asyncio.run(fetch_all(sources(*urls, ("AAAA", "base64")))) == [
        *[b"%d" % n for n in range(10)],
        bytes(3),
    ]


@here
def test_one_refusal_stops_the_others_and_names_its_part(site: Site) -> None:

    def slow(page: Page) -> None:
        page.server.closing.wait(10)

    site.pages["/slow"] = slow
    with pytest.raises(InvalidMedia) as caught:
        asyncio.run(fetch_all(sources((site.url("/slow"), "url"), (site.url("/none"), "url"))))
    assert caught.value.param == "messages[0].content[1]"


@here
@override_settings(MEDIA_FETCH_TIMEOUT_SECONDS=2)
def test_all_downloads_of_a_request_share_one_deadline(site: Site) -> None:
    def slow(page: Page) -> None:
        page.server.closing.wait(0.7)
        page.answer(200, PNG)

    site.pages["/slow"] = slow
    reference: tuple[str, Origin] = (site.url("/slow"), "url")
    # Four are fetched at once; each alone is quick enough.
    assert len(asyncio.run(fetch_all(sources(*[reference] * 4)))) == 4
    with pytest.raises(InvalidMedia, match="longer than 2 seconds"):
        asyncio.run(fetch_all(sources(*[reference] * 16)))


@override_settings(MAX_MEDIA_BYTES_PER_REQUEST=5)
def test_all_media_of_a_request_together_have_a_limit() -> None:
    assert asyncio.run(fetch_all(sources(("AAAA", "base64"), ("AAA", "base64")))) == [bytes(3), bytes(2)]
    with pytest.raises(InvalidMedia, match="together larger"):
        asyncio.run(fetch_all(sources(("AAAA", "base64"), ("AAAA", "base64"))))
