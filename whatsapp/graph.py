"""The Graph client: one call per attempt, over pooled connections.

Thin shell around aiohttp. Owns the session, the token and what tells "never left" from "no answer came"; what
an answer means is decided in ``errors.py`` and ``outcome.py``. Nothing is retried here.
"""

from __future__ import annotations

from collections.abc import Mapping

import aiohttp

from whatsapp.failures import NoAnswer, NotSent
from whatsapp.outcome import Answer

__all__ = ["Graph", "with_reference"]

# Raised before the first byte of a request is written; everything else may have reached Meta.
_NEVER_LEFT = (
    aiohttp.ClientConnectorError,
    aiohttp.ConnectionTimeoutError,
    aiohttp.InvalidURL,
)


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
        self._root = f"{base_url.rstrip('/')}/{version}"
        self._headers = _headers(access_token)
        self._headers_of = {number: _headers(token) for number, token in (tokens or {}).items()}
        self._connections = connections
        self._timeout = aiohttp.ClientTimeout(
            total=connect_timeout_s + answer_timeout_s,
            sock_connect=connect_timeout_s,
            sock_read=answer_timeout_s,
        )
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Make the connection pool."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._connections, keepalive_timeout=30),
            timeout=self._timeout,
            headers={"User-Agent": "whatsapp-gateway"},
        )

    async def close(self) -> None:
        """End every connection. Idempotent."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def send(self, phone_number_id: str, message: bytes, reference: str) -> Answer:
        """POST a message object, with our reference in it, as from this number.

        Raises NotSent where Meta cannot have seen it, NoAnswer where it may have.
        """
        url = f"{self._root}/{phone_number_id}/messages"
        return await self._call("POST", url, phone_number_id, with_reference(message, reference))

    async def number(self, phone_number_id: str) -> Answer:
        """What Graph knows of a number; also the probe of whether the token works (CLOUD_API.md 6).

        Raises as :meth:`send`.
        """
        fields = "id,display_phone_number,verified_name,quality_rating,throughput"
        return await self._call("GET", f"{self._root}/{phone_number_id}?fields={fields}", phone_number_id)

    async def _call(self, method: str, url: str, phone_number_id: str, body: bytes | None = None) -> Answer:
        assert self._session is not None, "the Graph client is not open"
        headers = self._headers_of.get(phone_number_id, self._headers)
        try:
            async with self._session.request(
                method, url, data=body, headers=headers, allow_redirects=False
            ) as response:
                return Answer(response.status, await response.read(), response.headers)
        except _NEVER_LEFT as error:
            raise NotSent(f"the Graph API cannot be reached: {error}") from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise NoAnswer(f"the Graph API gave no answer: {error or type(error).__name__}") from error


def _headers(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}


def with_reference(message: bytes, reference: str) -> bytes:
    """The message object with ``biz_opaque_callback_data`` (CLOUD_API.md 1.1), without decoding it.

    ``message`` is a non-empty JSON object without that field; ``reference`` needs no escaping.
    """
    return b'%s,"biz_opaque_callback_data":"%s"}' % (message[:-1], reference.encode())
