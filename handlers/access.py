"""Who may call: the API key, and what is allowed without one (contract.md, Keys; docs/design.md, Security).

Pure: decides from the request's headers and address. Without a key only callers on this machine are let in,
and nothing that came through a proxy, since a tunnel to the webhook is the usual way to run the gateway and
would otherwise open everything else to the world.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Sequence

from tornado.httputil import HTTPServerRequest

from store.errors import GatewayError

__all__ = ["Access", "AccessDenied", "KeyRequired", "check_same_site"]

_FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-Ip", "Via")
_LOOPBACK_NAMES = frozenset({"localhost", "ip6-localhost"})

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class KeyRequired(GatewayError):
    """The API key is missing or wrong."""

    code = "unauthorized"


class AccessDenied(GatewayError):
    """No key is configured, and the caller is not one that may do without; or a page of another site asks."""

    code = "forbidden"


class Access:
    """Decides who may call. ``trusted`` networks need no key."""

    def __init__(self, api_key: str, trusted: Sequence[Network] = ()) -> None:
        self._key_hash = _hash(api_key) if api_key else b""
        self._trusted = tuple(trusted)

    @property
    def needs_key(self) -> bool:
        """Whether a key is configured."""
        return bool(self._key_hash)

    def is_key(self, token: str) -> bool:
        """Whether this is the key, compared in constant time."""
        return hmac.compare_digest(_hash(token), self._key_hash)

    def check(self, request: HTTPServerRequest, token: str | None = None) -> None:
        """Return if the caller may go on. ``token``: what it gave elsewhere than in the headers.

        Raises KeyRequired or AccessDenied.
        """
        if self._is_trusted(request):
            return
        if not self.needs_key:
            self._check_local(request)
            return
        given = token or _token_of(request)
        if not given:
            raise KeyRequired("an API key is required: send it as Authorization: Bearer, or as X-API-Key")
        if not self.is_key(given):
            raise KeyRequired("this API key is not valid")

    def _is_trusted(self, request: HTTPServerRequest) -> bool:
        if not self._trusted or _came_through_proxy(request):
            return False
        address = _address(request.remote_ip)
        return address is not None and any(address in network for network in self._trusted)

    def _check_local(self, request: HTTPServerRequest) -> None:
        if _came_through_proxy(request):
            raise AccessDenied("requests through a proxy need an API key: set API_KEY")
        if not _is_loopback(request.host_name):
            raise AccessDenied("without an API key only a loopback address may be called: set API_KEY")
        address = _address(request.remote_ip)
        if address is not None and not address.is_loopback:
            raise AccessDenied("without an API key only this machine may call: set API_KEY")


def check_same_site(request: HTTPServerRequest) -> None:
    """Return unless a page of another site sends this. Raises AccessDenied."""
    # A form, or nothing, is what any page may send to any address on behalf of whoever looks at it.
    origin = request.headers.get("Origin", "").lower()
    if origin and origin.partition("://")[2] != request.host.lower():
        raise AccessDenied("a page of another site may send nothing here but JSON, if it may send that")


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def _token_of(request: HTTPServerRequest) -> str:
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and value:
        return value.strip()
    return request.headers.get("X-API-Key", "")


def _came_through_proxy(request: HTTPServerRequest) -> bool:
    return any(name in request.headers for name in _FORWARDED)


def _address(text: str | None) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text or "")
    except ValueError:
        return None


def _is_loopback(host: str) -> bool:
    if host.lower() in _LOOPBACK_NAMES:
        return True
    address = _address(host.strip("[]"))
    return address is not None and address.is_loopback
