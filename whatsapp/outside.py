"""Connections to programs of the operator's: whoever is to hear of events, or to answer them.

Owns how they are reached: each by a session of its own, so that one that is slow or dead holds nothing that
another needs; TLS verified, redirects refused, no cookies, answers bounded. The addresses are the operator's
own, from the configuration, so loopback and private networks may be named; what comes from a customer or
from Meta is never called. What is posted is signed (``post_signature.py``); when to post again is decided
elsewhere.
"""

from __future__ import annotations

import asyncio
import io
import socket
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from store.errors import GatewayError
from whatsapp.post_signature import signed_headers

__all__ = ["Posted", "Poster", "Unanswered", "outside_session", "reason_of"]

_JSON = {"Content-Type": "application/json"}
_CHUNK = 16 * 1024
_MOST_TOLD = 200
_WHOLE_BYTES = 1024 * 1024
"""aiohttp takes more than this only in portions."""


class Unanswered(GatewayError):
    """What was to be sent to a program of the operator's had no answer: it may have it or not."""

    code = "unanswered"


class Posted(NamedTuple):
    """What a POST was answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    """At most as much as was asked for."""
    is_whole: bool
    """Whether that is all of it: it may be longer, or have broken off."""


class Poster:
    """Posts JSON to one address."""

    def __init__(
        self,
        url: str,
        *,
        secret: str = "",
        headers: Mapping[str, str] | None = None,
        connect_timeout_s: float = 5.0,
        answer_timeout_s: float = 15.0,
        most_bytes: int = 64 * 1024,
        now_ms: Callable[[], int],
    ) -> None:
        """``answer_timeout_s``: for all of a POST. ``most_bytes``: read of an answer."""
        self._url = url
        self._secret = secret
        self._headers = {**(headers or {}), **_JSON}
        self._timeout = aiohttp.ClientTimeout(total=answer_timeout_s, connect=connect_timeout_s)
        self._most_bytes = most_bytes
        self._now_ms = now_ms
        self._session: aiohttp.ClientSession | None = None

    def set_secret(self, secret: str) -> bool:
        """Sign with this one from now on; whether it is another one."""
        before, self._secret = self._secret, secret
        return secret != before

    async def post(self, body: bytes, headers: Mapping[str, str]) -> Posted:
        """Post once. Raises Unanswered where no status came."""
        if self._session is None:
            self._session = outside_session(self._timeout)
        signed = signed_headers(self._secret, body, self._now_ms())
        try:
            async with self._session.post(
                self._url,
                data=body if len(body) <= _WHOLE_BYTES else io.BytesIO(body),
                headers={**self._headers, **headers, **signed},
                allow_redirects=False,
            ) as response:
                answer, is_whole = await self._read(response)
                return Posted(response.status, response.headers, answer, is_whole)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise Unanswered(f"no answer: {reason_of(error)}") from error

    async def close(self) -> None:
        """Let go of its connections. May be called twice."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _read(self, response: aiohttp.ClientResponse) -> tuple[bytes, bool]:
        """The status counts, whatever becomes of the body."""
        read = bytearray()
        try:
            while chunk := await response.content.read(_CHUNK):
                read += chunk
                if len(read) > self._most_bytes:
                    break
            else:
                return bytes(read), True
        except (aiohttp.ClientError, TimeoutError, OSError):
            pass
        # Not released: what nobody reads must not be read to its end.
        response.close()
        return bytes(read[: self._most_bytes]), False


def reason_of(error: Exception) -> str:
    """Why a call had no answer; without its address, which may hold a secret, and without what came."""
    match error:
        case TimeoutError():
            return "time ran out"
        case aiohttp.InvalidURL():
            return "the address cannot be used"
        case aiohttp.ClientResponseError():
            return "what came is no answer that can be read"
        case _:
            return (str(error) or type(error).__name__)[:_MOST_TOLD]


def outside_session(timeout: aiohttp.ClientTimeout | None = None) -> aiohttp.ClientSession:
    """For one program. Needs a running loop; its owner closes it."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(resolver=_Resolver()),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        headers={"User-Agent": "whatsapp-gateway"},
        timeout=timeout or aiohttp.ClientTimeout(),
        middlewares=(_refuse_redirects,),
    )


async def _refuse_redirects(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """A WebSocket's handshake would follow them, with its token."""
    response = await handler(request)
    if request.method == "GET" and 300 <= response.status < 400:
        response.close()
        raise aiohttp.ClientConnectionError(f"HTTP {response.status}: redirects are not followed")
    return response


class _Resolver(AbstractResolver):
    """Looks names up in a thread of its own: those of the loop are few and for all, and a name server that
    does not answer holds one for long."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "names")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        look_up = partial(socket.getaddrinfo, host, port, family, socket.SOCK_STREAM)
        found = await asyncio.get_running_loop().run_in_executor(self._thread, look_up)
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=port,
                family=kind,
                proto=proto,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, _, proto, _, address in found
        ]

    async def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)
