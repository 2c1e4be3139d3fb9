"""From the settings to the outside receivers of events: the server at ``WEBSOCKET_URL``, and the hooks.

Owns which parts each is made of, and what of it is taken over while the gateway runs: the secrets of hooks.
Read by ``server.py`` only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from urllib.parse import urlsplit

import msgspec

from hub.carrier import Carrier
from hub.delivery import Rules
from hub.hooks import Hook
from hub.outlet import Outlet
from hub.outlets import Outlets, selection
from hub.relay import Relay
from settings import RELAY, HookSettings, Settings
from store.base import Store
from store.log import Log
from whatsapp.clock import Clock
from whatsapp.outside import Poster
from whatsapp.retry import RetryPolicy

__all__ = ["Surroundings", "headers_of", "make_outlets", "renew_secrets"]

_RELAY_CAP_S = 60.0


class Surroundings(msgspec.Struct, frozen=True):
    """What all receivers need of the gateway."""

    store: Store
    log: Log
    owner: str
    lease_ttl_ms: int
    clock: Clock
    random: Callable[[], float]

    def outlet(
        self, name: str, carrier: Carrier, types: tuple[str, ...], number: str, rules: Rules
    ) -> Outlet:
        """The work for one of them."""
        return Outlet(
            name,
            carrier,
            selection(types, number),
            rules,
            store=self.store,
            log=self.log,
            owner=self.owner,
            lease_ttl_ms=self.lease_ttl_ms,
            now_ms=self.clock.now_ms,
            monotonic=self.clock.monotonic,
            random=self.random,
        )


def make_outlets(settings: Settings, around: Surroundings) -> Outlets:
    """All that the settings name."""
    return Outlets([*_relay(settings, around), *_hooks(settings, around)])


def renew_secrets(outlets: Outlets, settings: Settings) -> list[str]:
    """Take over the secrets of hooks from settings that were read again; the names of those that changed."""
    renewed = []
    for hook in settings.hooks.endpoints:
        outlet = outlets.by_name.get(hook.name)
        if outlet and isinstance(outlet.carrier, Hook) and outlet.carrier.set_secret(str(hook.secret)):
            renewed.append(hook.name)
    return renewed


def _relay(settings: Settings, around: Surroundings) -> Iterator[Outlet]:
    url, relay = settings.whatsapp.websocket_url, settings.relay
    if not url:
        return
    headers = headers_of(relay.headers)
    if relay.token:
        headers["Authorization"] = f"Bearer {relay.token}"
    carrier = Relay(
        str(url),
        address=_origin(url),
        headers=headers,
        ack=relay.ack,
        connect_timeout_s=relay.connect_timeout_s,
        answer_timeout_s=relay.answer_timeout_s,
        epoch=lambda: around.log.epoch,
        now_ms=around.clock.now_ms,
        monotonic=around.clock.monotonic,
    )
    rules = Rules(RetryPolicy(cap_s=_RELAY_CAP_S), relay.max_age_s, pause_after_s=math.inf)
    yield around.outlet(RELAY, carrier, relay.types, relay.phone_number_id, rules)


def _hooks(settings: Settings, around: Surroundings) -> Iterator[Outlet]:
    hooks = settings.hooks
    backoff = RetryPolicy(base_s=hooks.retry_base_s, cap_s=hooks.retry_cap_s)
    for hook in hooks.endpoints:
        rules = Rules(backoff, hooks.max_age_s, hooks.pause_after_s, hook.on_refused == "skip")
        yield around.outlet(hook.name, _hook(hook, settings, around), hook.types, hook.phone_number_id, rules)


def _hook(hook: HookSettings, settings: Settings, around: Surroundings) -> Hook:
    poster = Poster(
        str(hook.url),
        secret=str(hook.secret),
        headers=headers_of(hook.headers),
        connect_timeout_s=settings.hooks.connect_timeout_s,
        answer_timeout_s=settings.hooks.answer_timeout_s,
        now_ms=around.clock.now_ms,
    )
    return Hook(
        hook.name,
        poster,
        address=_origin(hook.url),
        batch=hook.batch,
        epoch=lambda: around.log.epoch,
        now_ms=around.clock.now_ms,
    )


def headers_of(lines: Iterable[str]) -> dict[str, str]:
    """Headers as they are written in the settings, by their names."""
    pairs = (line.partition(":") for line in lines)
    return {name: value.strip() for name, _, value in pairs}


def _origin(url: str) -> str:
    """Whose address it is; what follows, or stands before the host, may be secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
