"""What the HTTP layer refuses is answered like everything else: the error object, a request id, a line in the log."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.live.stack import STOP_SECONDS, EmbeddedStack
from tests.waiting import wait_for

JSON = b"Content-Type: application/json\r\n"
FORM = b"Content-Type: multipart/form-data; boundary=x\r\n"
LARGE = b"Content-Length: 400000000\r\n"
FILE = b'--x\r\nContent-Disposition: form-data; name="image"; filename="%s"\r\n%s\r\n%s\r\n--x--\r\n'
FIELD = b'--x\r\nContent-Disposition: form-data; name="a"%s\r\n\r\na\r\n'


def request(
    head: bytes = b"", body: bytes = b"", *, method: bytes = b"POST", target: bytes = b"/v1/chat/completions"
) -> bytes:
    """A request as it goes over the wire; it has a length unless ``head`` says how long the body is."""
    length = b"" if b"Length:" in head or b"Transfer-" in head else b"Content-Length: %d\r\n" % len(body)
    return b"%s %s HTTP/1.1\r\nHost: localhost\r\n%s%s\r\n%s" % (method, target, head, length, body)


def upload(body: bytes, head: bytes = FORM) -> bytes:
    return request(head, body, target=b"/ktp-ocr/")


@pytest.fixture
def wire(embedded_server: EmbeddedStack) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", embedded_server.port), STOP_SECONDS) as connection:
        yield connection


def answer(wire: socket.socket) -> httpx.Response:
    """The next response on the connection, which need not close behind it."""
    received = wire.makefile("rb")
    status = int(received.readline().split()[1])
    headers = dict(line.decode().rstrip().split(": ", 1) for line in iter(received.readline, b"\r\n"))
    headers = {name.lower(): value for name, value in headers.items()}
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while size := int(received.readline(), 16):
            body += received.read(size)
            received.readline()
    else:
        body = received.read(int(headers.get("content-length", 0)))
    return httpx.Response(
        status, headers=[pair for pair in headers.items() if pair[0] != "transfer-encoding"], content=body
    )


def check_refusal(server: EmbeddedStack, response: httpx.Response, status: int) -> str:
    """An error object, with an id that stands in the log. Returns the message."""
    assert response.status_code == status, response.text
    error = json.loads(response.content)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    wait_for(lambda: f"[{response.headers['x-request-id']}]" in server.processes["serve"].log.read_text())
    return str(error["message"])


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        pytest.param(request(JSON + LARGE), 413, id="declared too large"),
        pytest.param(request(LARGE, method=b"GET", target=b"/v1/nowhere"), 413, id="too large for no address"),
        pytest.param(request(LARGE, target=b"/health"), 413, id="too large for a probe"),
        pytest.param(request(JSON + b"Expect: 100-continue\r\n" + LARGE), 413, id="asks before it sends too much"),
        pytest.param(request(JSON + b"Content-Length: " + b"9" * 5000 + b"\r\n"), 400, id="absurd length"),
        pytest.param(request(JSON + b"Content-Length: -1\r\n"), 400, id="negative length"),
        pytest.param(request(JSON + b"Content-Length: 2\r\nContent-Length: 3\r\n"), 400, id="two lengths"),
        pytest.param(request(JSON + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", b"{}"), 400, id="both"),
        pytest.param(request(JSON + b"Transfer-Encoding: gzip, chunked\r\n"), 400, id="unknown transfer"),
        pytest.param(request(JSON + b"Transfer-Encoding: chunked\r\n", b"zz\r\n"), 400, id="broken chunk"),
        pytest.param(request(JSON + b"Transfer-Encoding: chunked\r\n", b"1\r\nx\r\n" * 5000), 400, id="tiny chunks"),
        pytest.param(request(b"X-A: " + b"a" * 60_000 + b"\r\n"), 431, id="long header"),
        pytest.param(request(b"".join(b"X-%d: a\r\n" % n for n in range(2000))), 431, id="many headers"),
        pytest.param(request(method=b"GET", target=b"/v1/" + b"a" * 60_000), 431, id="long address"),
        pytest.param(request(b"a b: c\r\n"), 400, id="header name"),
        pytest.param(request(b"X-A: \x1c\r\n"), 400, id="header value"),
        pytest.param(request(method=b"GET", target=b"/v1/\xa9"), 400, id="address that is not ASCII"),
        pytest.param(request(method=b"GET", target=b"/v1/models?\xa9"), 400, id="query that is not ASCII"),
        pytest.param(request(method=b"GET", target=b"http://evil.example/v1/models"), 400, id="foreign host"),
        pytest.param(request(method=b"GET", target=b"//v1/models"), 404, id="two slashes"),
        pytest.param(request(method=b"FOO", target=b"/v1/models"), 405, id="unknown method"),
        pytest.param(request(JSON), 400, id="no body"),
        pytest.param(request(JSON + b"Content-Encoding: gzip\r\n", b"\x1f\x8b"), 415, id="packed"),
        pytest.param(request(b"Content-Type: application/json; x*=bogus''y\r\n", b"{}"), 415, id="type in no encoding"),
        pytest.param(request(b"Content-Type: application/json; name*=\r\n", b"{}"), 400, id="type with half a name"),
        pytest.param(
            request(method=b"GET", target=b"/v1/sessions/a/events?" + b"&a=1" * 2000), 400, id="query parameters"
        ),
        pytest.param(upload(b"a", b"Content-Type: multipart/form-data\r\n"), 400, id="no boundary"),
        pytest.param(upload(b"a", b"Content-Type: multipart/form-data; boundary=\xc3\xa9\r\n"), 400, id="odd boundary"),
        pytest.param(upload(FILE % (b"a" * 1100, b"", b"x")), 400, id="long name"),
        pytest.param(upload(FILE % (b"a." + b"b" * 900, b"", b"x" * 3_000_000)), 400, id="long suffix"),
        pytest.param(upload(FILE % (b"a", b"Content-Transfer-Encoding: base64\r\n", b"!!")), 400, id="no base64"),
        pytest.param(upload(b'--x\r\nContent-Disposition: form-data; name*=\r\n\r\na\r\n--x--'), 400, id="half a name"),
        pytest.param(upload(FIELD % b"" * 1200), 400, id="many fields"),
        pytest.param(upload(FIELD % b'; filename="a"' * 200), 400, id="many files"),
    ],
)  # fmt: skip
def test_a_broken_request_to_the_api_is_answered_by_the_error_object(
    embedded_server: EmbeddedStack, wire: socket.socket, sent: bytes, status: int
) -> None:
    wire.sendall(sent)
    response = answer(wire)
    if response.status_code == 100:
        response = answer(wire)
    check_refusal(embedded_server, response, status)


@pytest.mark.parametrize(
    "sent", [b"NONSENSE\r\n\r\n", request(method=b"OPTIONS", target=b"*"), request(LARGE, target=b"/admin/")]
)
def test_a_broken_request_to_no_api_is_answered_by_a_page_of_ours(wire: socket.socket, sent: bytes) -> None:
    wire.sendall(sent)
    response = answer(wire)
    assert response.status_code in (400, 413)
    assert response.headers["x-request-id"]
    assert "Sambung" in response.text


def test_a_body_that_grows_over_the_limit_is_refused_before_its_end(
    embedded_server: EmbeddedStack, wire: socket.socket
) -> None:
    wire.sendall(request(JSON + b"Transfer-Encoding: chunked\r\n"))
    chunk = b"%x\r\n%s\r\n" % (2**20, bytes(2**20))
    for _ in range(70):
        wire.sendall(chunk)
    # There is no last chunk: it is not waited for.
    check_refusal(embedded_server, answer(wire), 413)
    assert wire.recv(1) == b""


def test_nothing_of_a_refused_body_is_taken_for_a_request(embedded_server: EmbeddedStack, wire: socket.socket) -> None:
    smuggled = request(method=b"GET", target=b"/v1/smuggled")
    wire.sendall(request(JSON + LARGE) + smuggled)
    check_refusal(embedded_server, answer(wire), 413)
    wire.sendall(smuggled)
    assert wire.recv(1) == b""
    assert "/v1/smuggled" not in embedded_server.processes["serve"].log.read_text()


def test_requests_that_follow_each_other_are_answered_in_turn(wire: socket.socket) -> None:
    wire.sendall(
        request(method=b"GET", target=b"/v1/models")
        + request(b"Connection: close\r\n", method=b"GET", target=b"/health")
    )
    received = wire.makefile("rb").read()
    assert received.count(b"HTTP/1.1 200 OK") == 2
    assert received.index(b'"list"') < received.index(b'"modelReady"')


def test_a_browser_is_told_the_origin_rules_of_a_refusal(embedded_server: EmbeddedStack, wire: socket.socket) -> None:
    wire.sendall(request(JSON + LARGE + b"Origin: http://localhost:5173\r\n"))
    assert answer(wire).headers["access-control-allow-origin"]


def test_a_form_is_read_whatever_the_case_of_its_name_and_however_it_is_sent(http_of_api: httpx.Client) -> None:
    body = FILE % (b"a.png", b"Content-Type: image/png\r\n", b"no picture")
    whole = http_of_api.post("/ktp-ocr/", content=body, headers={"Content-Type": "Multipart/Form-Data; boundary=x"})
    in_chunks = http_of_api.post(
        "/ktp-ocr/", content=iter([body]), headers={"Content-Type": "multipart/form-data; boundary=x"}
    )
    # Both were read: it is the picture that is refused.
    assert whole.json()["error"]["code"] == in_chunks.json()["error"]["code"] == "invalid_media"


@pytest.mark.parametrize("name", [b"a.png", b"a." + b"b" * 300, b"a.b\\..\\c", "ktp é.jpg".encode()])
def test_a_large_file_is_read_whatever_it_is_called(http_of_api: httpx.Client, name: bytes) -> None:
    body = FILE % (name, b"", bytes(5_000_000))
    response = http_of_api.post("/ktp-ocr/", content=body, headers={"Content-Type": "multipart/form-data; boundary=x"})
    # It was read: it is the picture that is refused.
    assert response.json()["error"]["code"] == "invalid_media"


def test_a_client_does_not_choose_the_prefix_of_the_paths(http_of_api: httpx.Client) -> None:
    assert http_of_api.get("/foo/admin/", headers={"Daphne-Root-Path": "/foo"}).status_code == 404
    assert http_of_api.get("/foo/v1/models", headers={"daphne-root-path": "/foo"}).status_code == 404


def test_the_operator_does(start_embedded: Callable[..., EmbeddedStack]) -> None:
    server = start_embedded(ROOT_PATH="/sambung/")
    with server.client(follow_redirects=True) as http:
        assert http.get("/sambung/v1/models").is_success
        login = http.get("/sambung/ocr/")
        assert login.url.path == "/sambung/accounts/login/"
        [style] = re.findall(r'href="([^"]*site.css)"', login.text)
        assert style == "/sambung/static/site.css"
        assert http.get(style).is_success
        assert http.get("/sambung/favicon.ico").is_success


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/tiny", "/health"])
def test_what_can_be_got_can_be_asked_for_without_its_body(http_of_api: httpx.Client, path: str) -> None:
    response = http_of_api.head(path)
    assert response.status_code == 200
    assert response.content == b""


def test_an_absolute_address_is_its_path(http_of_api: httpx.Client, wire: socket.socket) -> None:
    wire.sendall(request(method=b"GET", target=b"http://localhost/v1/models"))
    assert answer(wire).json()["object"] == "list"


@pytest.fixture
def http_of_api(embedded_server: EmbeddedStack) -> Iterator[httpx.Client]:
    with embedded_server.client() as client:
        yield client
