"""HTTP as it arrives: bodies go to disk unread, too large ones are refused while they arrive, and Django answers.

Twisted parses form bodies before the address is checked (12 s on the event loop for 24 MB of short lines), accepts
bodies of any size, and answers broken requests with a bare status; Daphne then holds the whole body in memory. Here
nothing is parsed, a body over ``MAX_REQUEST_BYTES`` ends at the limit, and each request that this layer refuses is
passed to the application as a ``Refusal``, so that the answer has the API's form, a request id and a line in the log.
"""

from __future__ import annotations

import dataclasses
import io
import string
from http import HTTPStatus
from typing import Any, BinaryIO
from urllib.parse import quote_from_bytes, urlsplit

from daphne.http_protocol import HTTPFactory, WebRequest
from daphne.utils import HEADER_NAME_RE, INVALID_HEADER_VALUE_BYTES
from django.conf import settings
from twisted.web.http import RESPONSES, HTTPChannel
from twisted.web.http_headers import Headers

#: the key of ``Received`` among the extensions of the ASGI scope
EXTENSION = "sambung"
#: seconds for which data from a refused client is read and dropped; otherwise its system would discard the answer
LINGER_SECONDS = 5.0
LINGER_BYTES = 64 * 2**20
#: characters kept of an address that is too long, enough to recognize the endpoint
MAX_PATH_CHARS_KEPT = 1000
#: a chunked body may have this many small parts: each costs as much time as some hundred bytes
SMALL_CHUNKS = 1000
MIN_MEAN_CHUNK_BYTES = 64

# Twisted's own list is older than some of the statuses.
RESPONSES.update({status.value: status.phrase.encode() for status in HTTPStatus if status.value not in RESPONSES})


@dataclasses.dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is refused before the application has seen it."""

    status: int
    code: str
    message: str


@dataclasses.dataclass(frozen=True, slots=True)
class Received:
    """What the ASGI scope has of a request in addition to its head."""

    #: the body, positioned at its beginning; the application reads and closes it
    body: BinaryIO
    refusal: Refusal | None


class BoundedRequest(WebRequest):
    """A request whose body is limited while it arrives, and whose refusal the application answers."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, parsePOSTFormSubmission=False, **kwargs)
        self.received: Received | None = None
        self._refusal: Refusal | None = None
        #: set by Twisted; None before the headers have arrived
        self.content: Any
        self._body_bytes = 0
        self._chunks = 0

    @property
    def is_refused(self) -> bool:
        return self._refusal is not None

    def gotLength(self, length: int | None) -> None:
        super().gotLength(length)
        if length is not None and length > settings.MAX_REQUEST_BYTES:
            self.channel.refuse(_too_large())

    def handleContentChunk(self, data: bytes) -> None:
        if self.is_refused:
            return
        self._body_bytes += len(data)
        self._chunks += 1
        if self._body_bytes > settings.MAX_REQUEST_BYTES:
            self.channel.refuse(_too_large())
        elif self._chunks > SMALL_CHUNKS and self._body_bytes < self._chunks * MIN_MEAN_CHUNK_BYTES:
            self.channel.refuse(Refusal(400, "invalid_request", "The body was sent in too many tiny chunks."))
        else:
            super().handleContentChunk(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """The request is complete. One that was refused earlier has been processed already."""
        if not self.is_refused:
            super().requestReceived(command, path, version)

    def refuse(self, refusal: Refusal, command: bytes, path: bytes, version: bytes) -> None:
        """Have the application answer now, even if the request is not complete."""
        self._refusal = refusal
        if self.content is not None:
            self.content.close()
        self.content = io.BytesIO()
        super().requestReceived(command, path, version)

    def process(self) -> None:
        # A client could choose the prefix that Django takes off the path, and so get past a proxy's rules for paths.
        self.requestHeaders.removeHeader(b"Daphne-Root-Path")
        _to_origin_form(self)
        if self._refusal is None and (fault := _fault_of(self)):
            self._refusal = Refusal(400, "invalid_request", fault)
        if self._refusal is not None:
            # Otherwise Daphne would answer with its own error page.
            _clean(self)
        # Daphne copies the whole content into memory; the application reads the file itself.
        body, self.content = self.content, io.BytesIO()
        body.seek(0)
        self.received = Received(body, self._refusal)
        super().process()


class BoundedChannel(HTTPChannel):
    """A connection whose broken and oversized requests get an answer that can be read."""

    requestFactory = BoundedRequest

    def __init__(self) -> None:
        super().__init__()
        self._refused = False
        self._dropped_bytes = 0

    def refuse(self, refusal: Refusal) -> None:
        """Answer the request that is arriving, drop the rest of it, and close the connection after the answer."""
        if self._refused:
            return
        self._refused = True
        self.persistent = False
        # Until the connection closes: further requests on it cannot be distinguished from the body.
        self.dataReceived = self.rawDataReceived = self._drop
        self.lineReceived = self._drop_line
        self.setTimeout(None)
        if not self.requests:
            self.requests.append(self.requestFactory(self, 0))
        request = self.requests[-1]
        request.responseHeaders.setRawHeaders(b"Connection", [b"close"])
        request.refuse(
            refusal,
            getattr(self, "_command", b"GET"),
            getattr(self, "_path", b"/"),
            getattr(self, "_version", b"HTTP/1.1"),
        )

    def headerReceived(self, line: bytes) -> bool:
        try:
            received: bool = super().headerReceived(line)
        except ValueError:  # a Content-Length of thousands of digits
            self._respondToBadRequestAndDisconnect()
            return False
        return received

    def lineLengthExceeded(self, line: bytes) -> None:
        if not hasattr(self, "_path"):
            method, _, rest = line.partition(b" ")
            if rest.startswith(b"/") and method.isalpha():
                self._command, self._path = method, rest.partition(b" ")[0][:MAX_PATH_CHARS_KEPT]
        self.refuse(_head_too_large())

    def _respondToBadRequestAndDisconnect(self) -> None:
        if self._receivedHeaderSize > self.totalHeadersSize or self._receivedHeaderCount > self.maxHeaders:
            self.refuse(_head_too_large())
        else:
            self.refuse(Refusal(400, "invalid_request", "This is not a well-formed HTTP request."))

    def _send100Continue(self) -> None:
        if not self._refused:
            super()._send100Continue()

    def loseConnection(self) -> None:
        """After a refusal, close only when the client has stopped sending or its time is over."""
        if not self._refused:
            super().loseConnection()
            return
        self._networkProducer.unregisterProducer()
        self.transport.loseWriteConnection()
        self.callLater(LINGER_SECONDS, self._abort)

    def _abort(self) -> None:
        if self.transport is not None and self.transport.connected:
            self.transport.abortConnection()

    def _drop(self, data: bytes) -> None:
        self._dropped_bytes += len(data)
        if self._dropped_bytes > LINGER_BYTES:
            self._abort()

    def _drop_line(self, line: bytes) -> None:
        """Drop further lines of the buffer that is being read."""


def build_channel(factory: HTTPFactory, address: object) -> BoundedChannel:
    """The ``buildProtocol`` of Daphne's factory, with the channel above."""
    channel = BoundedChannel()
    channel.factory = factory
    channel.callLater = factory.reactor.callLater
    channel.timeOut = factory.timeOut
    return channel


def _to_origin_form(request: BoundedRequest) -> None:
    """``GET http://host/path`` asks for ``/path`` of ``host`` (RFC 9112, section 3.2.2)."""
    if request.path.startswith(b"/"):
        return
    scheme, host, *_ = urlsplit(request.uri.decode("latin-1"))
    if scheme.lower() in ("http", "https") and host:
        request.requestHeaders.setRawHeaders(b"Host", [host.encode("latin-1")])
        rest = request.uri.partition(b"://")[2]
        request.uri = b"/" + rest.partition(b"/")[2] if b"/" in rest.partition(b"?")[0] else b"/"
        request.path = request.uri.partition(b"?")[0]


def _fault_of(request: BoundedRequest) -> str:
    """Why Daphne would refuse the request or Django could not route it; empty if neither."""
    for name, values in request.requestHeaders.getAllRawHeaders():
        if not HEADER_NAME_RE.fullmatch(name):
            return "A header has a name that is not allowed."
        if any(INVALID_HEADER_VALUE_BYTES.intersection(value) for value in values):
            return "A header has a value with characters that are not allowed."
    if not request.uri.isascii():
        return "The address has characters that must be percent-encoded."
    if not request.path.startswith(b"/"):
        return "The request target must be a path."
    return ""


def _clean(request: BoundedRequest) -> None:
    kept = [
        (name, [value for value in values if not INVALID_HEADER_VALUE_BYTES.intersection(value)])
        for name, values in request.requestHeaders.getAllRawHeaders()
        if HEADER_NAME_RE.fullmatch(name) and name.lower() != b"upgrade"
    ]
    request.requestHeaders = Headers({name: values for name, values in kept if values})
    if not request.path.startswith(b"/"):
        request.uri = request.path = b"/"
    request.uri = quote_from_bytes(request.uri, safe=string.punctuation).encode()
    request.path = request.uri.partition(b"?")[0]


def _too_large() -> Refusal:
    return Refusal(413, "request_too_large", f"The request is larger than {settings.MAX_REQUEST_BYTES} bytes.")


def _head_too_large() -> Refusal:
    return Refusal(
        431,
        "headers_too_large",
        f"The address and the headers are larger than {HTTPChannel.totalHeadersSize} bytes together, "
        f"or there are more than {HTTPChannel.maxHeaders} headers.",
    )
