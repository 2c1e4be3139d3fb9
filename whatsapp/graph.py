"""The Graph client: one call per attempt, over pooled connections.

Thin shell around aiohttp. Owns the sessions, the token and what tells "never left" from "no answer came";
what an answer means is decided in ``errors.py`` and ``outcome.py``. Nothing is retried here. Files have a
pool of their own, so that slow ones do not keep messages waiting, and pass through in chunks.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from urllib.parse import urljoin

import aiohttp
from aiohttp.connector import Connection
from aiohttp.tracing import Trace

from whatsapp.compose import is_marketing
from whatsapp.failures import NoAnswer, NotSent, Withheld
from whatsapp.media_rules import trust_of
from whatsapp.outcome import Answer

__all__ = ["FILES_AT_ONCE", "Graph", "Incoming", "with_reference"]

FILES_AT_ONCE = 16
"""Connections for files; more wait for their turn."""
_UPLOAD_S = 900.0
"""For all of an upload: 100 MB (CLOUD_API.md 5) at a megabit a second."""
_CHUNK = 64 * 1024
_REDIRECTS = 3
_MOVED = frozenset({301, 302, 303, 307, 308})
_TEMPLATE_FIELDS = "name,language,status,category,components,parameter_format,message_send_ttl_seconds"
_TEMPLATES_A_PAGE = 100
_NUMBER_FIELDS = "id,display_phone_number,verified_name,quality_rating,throughput"
_BAD_REQUEST = 400
_JSON = {"Content-Type": "application/json"}

# Raised before the first byte of a request is written; everything else may have reached Meta.
_NEVER_LEFT = (
    aiohttp.ClientConnectorError,
    aiohttp.ConnectionTimeoutError,
    aiohttp.InvalidURL,
)


_may_leave: ContextVar[Callable[[], bool]] = ContextVar("may_leave")
"""Of the call that is made in this context."""


class _Connector(aiohttp.TCPConnector):
    """Asks, when there is a connection and before anything is written to it, whether the call may still be
    made: to connect, or to wait for a connection, may take seconds."""

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        connection = await super().connect(req, traces, timeout)
        if not _may_leave.get(_always)():
            connection.release()
            raise Withheld("the right to send was lost before the request left")
        return connection


class Incoming:
    """A file on its way in, or what was answered in its place."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers

    @property
    def size(self) -> int | None:
        """Its length, where it is told."""
        # aiohttp unpacks what is packed, and the length is that of the packed.
        return None if "Content-Encoding" in self.headers else self._response.content_length

    async def chunks(self) -> AsyncIterator[bytes]:
        """The bytes as they come. Raises NoAnswer where they break off, or stop coming."""
        with _faults_named():
            async for chunk in self._response.content.iter_chunked(_CHUNK):
                yield chunk

    async def beginning(self, limit: int) -> bytes:
        """At most so many bytes of it, for what is no file. Raises NoAnswer."""
        with _faults_named():
            return await self._response.content.read(limit)


class Graph:
    """Calls to one Graph API. Use between :meth:`open` and :meth:`close`."""

    def __init__(
        self,
        base_url: str,
        version: str,
        access_token: str,
        *,
        tokens: Mapping[str, str] | None = None,
        connections: int = 256,
        connect_timeout_s: float = 5.0,
        answer_timeout_s: float = 20.0,
    ) -> None:
        """``tokens``: of numbers, by id, that have one of their own; ``access_token`` is for all else."""
        self._base_url = base_url
        self._root = f"{base_url.rstrip('/')}/{version}"
        self.set_tokens(access_token, tokens or {})
        self._connections = connections
        self._timeout = aiohttp.ClientTimeout(
            total=connect_timeout_s + answer_timeout_s,
            sock_connect=connect_timeout_s,
            sock_read=answer_timeout_s,
        )
        self._file_timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=connect_timeout_s, sock_read=answer_timeout_s
        )
        self._upload_timeout = aiohttp.ClientTimeout(
            total=_UPLOAD_S, sock_connect=connect_timeout_s, sock_read=answer_timeout_s
        )
        self._session: aiohttp.ClientSession | None = None
        self._files: aiohttp.ClientSession | None = None

    def set_tokens(self, access_token: str, tokens: Mapping[str, str]) -> None:
        """Every call from now on has these, as in the constructor; calls under way keep theirs."""
        self._token = _bearer(access_token)
        self._token_of = {number: _bearer(token) for number, token in tokens.items()}
        self._headers = {**self._token, **_JSON}
        self._headers_of = {number: {**token, **_JSON} for number, token in self._token_of.items()}

    async def open(self) -> None:
        """Make the connection pools."""
        self._session, self._files = (
            aiohttp.ClientSession(
                connector=_Connector(limit=limit, keepalive_timeout=30),
                timeout=timeout,
                # Some of the hosts that files lie on refuse a caller without (CLOUD_API.md 5).
                headers={"User-Agent": "whatsapp-gateway"},
            )
            for limit, timeout in ((self._connections, self._timeout), (FILES_AT_ONCE, self._file_timeout))
        )

    async def close(self) -> None:
        """End every connection. Idempotent."""
        sessions = (self._session, self._files)
        self._session = self._files = None
        for session in sessions:
            if session is not None:
                await session.close()

    async def send(
        self,
        phone_number_id: str,
        message: bytes,
        reference: str,
        may_leave: Callable[[], bool] = lambda: True,
    ) -> Answer:
        """POST a message object, with our reference in it, as from this number; a marketing message to the
        path of those. ``may_leave`` is asked when there is a connection for it, just before it leaves.

        Raises NotSent where Meta cannot have seen it, Withheld where it might not leave, NoAnswer where it
        may have left.
        """
        path = "marketing_messages" if is_marketing(message) else "messages"
        url = f"{self._root}/{phone_number_id}/{path}"
        asked = _may_leave.set(may_leave)
        try:
            return await self._call("POST", url, phone_number_id, with_reference(message, reference))
        finally:
            _may_leave.reset(asked)

    async def mark_read(self, phone_number_id: str, mark: bytes) -> Answer:
        """POST the object that marks a message as read (CLOUD_API.md 1.3). Raises as :meth:`send`."""
        return await self._call("POST", f"{self._root}/{phone_number_id}/messages", phone_number_id, mark)

    async def number(self, phone_number_id: str) -> Answer:
        """What Graph knows of a number; also the probe of whether the token works (CLOUD_API.md 6).

        Raises as :meth:`send`.
        """
        return await self._number(phone_number_id, _NUMBER_FIELDS)

    async def number_level(self, phone_number_id: str) -> Answer:
        """A number's ``throughput`` (CLOUD_API.md 3), and ``is_on_biz_app`` where Graph knows that: others
        read it, CLOUD_API.md does not have it. Raises as :meth:`send`."""
        answer = await self._number(phone_number_id, "throughput,is_on_biz_app")
        if answer.status != _BAD_REQUEST:
            return answer
        return await self._number(phone_number_id, "throughput")

    async def _number(self, phone_number_id: str, fields: str) -> Answer:
        return await self._call("GET", f"{self._root}/{phone_number_id}?fields={fields}", phone_number_id)

    # -- media -----------------------------------------------------------------------------------------

    async def media(self, media_id: str, phone_number_id: str) -> Answer:
        """What Graph knows of a file, its address among it (CLOUD_API.md 5), asked with the token of this
        number. Raises as :meth:`send`."""
        return await self._call("GET", f"{self._root}/{media_id}", phone_number_id)

    async def delete_media(self, media_id: str, phone_number_id: str) -> Answer:
        """Have Meta forget a file. Raises as :meth:`send`."""
        return await self._call("DELETE", f"{self._root}/{media_id}", phone_number_id)

    async def upload(
        self, phone_number_id: str, type: str, name: str, size: int, chunks: AsyncIterator[bytes]
    ) -> Answer:
        """Give Meta a file of exactly ``size`` bytes, for messages from this number.

        Raises as :meth:`send`, and OSError where ``chunks`` does. They are asked for only as fast as Meta
        takes them. ``name`` must be plain, see ``safe_name``.
        """
        assert self._files is not None, "the Graph client is not open"
        boundary = uuid.uuid4().hex
        head, tail = _form(boundary, type, name)
        headers = {
            **self._token_of.get(phone_number_id, self._token),
            "Content-Type": f"multipart/form-data; boundary={boundary}",
            "Content-Length": str(len(head) + size + len(tail)),
        }

        faults: list[OSError] = []

        async def body() -> AsyncIterator[bytes]:
            yield head
            try:
                async for chunk in chunks:
                    yield chunk
            except OSError as error:
                # aiohttp would take it for one of the connection's.
                faults.append(error)
                raise
            yield tail

        try:
            with _faults_named():
                async with self._files.post(
                    f"{self._root}/{phone_number_id}/media",
                    data=body(),
                    headers=headers,
                    timeout=self._upload_timeout,
                    allow_redirects=False,
                ) as response:
                    return Answer(response.status, await response.read(), response.headers)
        except NoAnswer:
            if faults:
                raise faults[0] from None
            raise

    @asynccontextmanager
    async def download(self, url: str, phone_number_id: str) -> AsyncIterator[Incoming]:
        """The file at an address that :meth:`media` gave for this number; it lies on another host and needs
        the token too.

        Redirects are followed where they stay with Meta. Raises as :meth:`send`, NotSent also for an address
        that is not to be called.
        """
        assert self._files is not None, "the Graph client is not open"
        token = self._token_of.get(phone_number_id, self._token)
        trust = trust_of(url, self._base_url)
        for _ in range(_REDIRECTS + 1):
            if trust == "no":
                raise NotSent("the address of the file is not https, or leads away from Meta")
            headers = {**(token if trust == "token" else {}), "Accept-Encoding": "identity"}
            with _faults_named():
                response = await self._files.get(url, headers=headers, allow_redirects=False)
            try:
                if response.status not in _MOVED:
                    yield Incoming(response)
                    return
                url = urljoin(url, response.headers.get("Location", ""))
            finally:
                # Not released: what nobody reads of a file must not be read to its end.
                response.close()
            trust = "token" if trust_of(url, self._base_url) == "token" else "no"
        raise NoAnswer("the file was not there after several redirects")

    # -- templates -------------------------------------------------------------------------------------

    async def templates(self, waba_id: str, after: str = "") -> Answer:
        """One page of an account's message templates (CLOUD_API.md 6). Raises as :meth:`send`."""
        assert self._session is not None, "the Graph client is not open"
        query = {"fields": _TEMPLATE_FIELDS, "limit": str(_TEMPLATES_A_PAGE)}
        if after:
            query["after"] = after
        return await self._call("GET", f"{self._root}/{waba_id}/message_templates", query=query)

    async def _call(
        self,
        method: str,
        url: str,
        phone_number_id: str = "",
        body: bytes | None = None,
        *,
        query: Mapping[str, str] | None = None,
    ) -> Answer:
        assert self._session is not None, "the Graph client is not open"
        headers = self._headers_of.get(phone_number_id, self._headers)
        with _faults_named():
            async with self._session.request(
                method, url, data=body, params=query, headers=headers, allow_redirects=False
            ) as response:
                return Answer(response.status, await response.read(), response.headers)


@contextmanager
def _faults_named() -> Iterator[None]:
    """aiohttp's errors as ours: NotSent, NoAnswer."""
    try:
        yield
    except _NEVER_LEFT as error:
        raise NotSent(f"the Graph API cannot be reached: {error}") from error
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise NoAnswer(f"the Graph API gave no answer: {error or type(error).__name__}") from error


def _form(boundary: str, type: str, name: str) -> tuple[bytes, bytes]:
    """What stands before and after the file's bytes (CLOUD_API.md 5)."""
    quoted = name.replace("\\", "_").replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
    head = "".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"{more}\r\n\r\n{value}'
        for field, more, value in (
            ("messaging_product", "", "whatsapp\r\n"),
            ("type", "", f"{type}\r\n"),
            ("file", f'; filename="{quoted}"\r\nContent-Type: {type}', ""),
        )
    )
    return head.encode("utf-8", "replace"), f"\r\n--{boundary}--\r\n".encode()


def _always() -> bool:
    return True


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def with_reference(message: bytes, reference: str) -> bytes:
    """The message object with ``biz_opaque_callback_data`` (CLOUD_API.md 1.1), without decoding it.

    ``message`` is a non-empty JSON object without that field; ``reference`` needs no escaping.
    """
    return b'%s,"biz_opaque_callback_data":"%s"}' % (message[:-1], reference.encode())
