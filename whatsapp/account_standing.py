"""What Meta's webhooks say of whether a business account may send (CLOUD_API.md 4.7, CLOUD_API_2026.md 10.2).

Pure; times in milliseconds since 1970. Owns which ``account_update`` stands against an account, what lifts
it, and when it is forgotten. It is told and stops nothing: a webhook names the account and not its numbers,
Meta does not document what each restriction forbids, and a call that is refused for one stops what it must by
its error (368, 131031, ...).

What is known of two sources is joined by :func:`joined`, in any order and as often as one likes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from store.records import Event
from whatsapp.clock import metas_time
from whatsapp.events import EventType

__all__ = ["Account", "Standing", "Word", "in_force", "joined", "standing_of"]

_FIELD = "account_update"
_SEE = "See the account in Meta's WhatsApp Manager."
_FORGOTTEN_MS = 30 * 24 * 3600 * 1000
"""Of what Meta has neither lifted nor set an end: nothing says that it holds for ever."""
_MOST_TEXT = 100
_LIFTS = frozenset({"ACCOUNT_RECONNECTED"})
_REINSTATE = "REINSTATE"
_ENDS = {
    "ACCOUNT_DELETED": "The account was deleted at Meta",
    "ACCOUNT_OFFBOARDED": "The account was taken off the Cloud API",
}
_BANS = {
    "DISABLE": "Meta has disabled the account",
    "SCHEDULE_FOR_DISABLE": "Meta is going to disable the account",
}


class Word(msgspec.Struct, frozen=True):
    """That an account may not send, or only in part."""

    at: int
    until: int
    why: str
    """A sentence to the operator."""


class Account(msgspec.Struct, frozen=True):
    """What is known of one account."""

    lifted_at: int = 0
    """What was said until then is over."""
    words: dict[str, Word] = {}
    """The last of each kind, by the event's name."""


Standing = Mapping[str, Account]
"""By the account's id."""


def joined(*standings: Standing) -> dict[str, Account]:
    """All that they know: the later word of each kind, and none that was lifted since."""
    result: dict[str, Account] = {}
    for standing in standings:
        for id, account in standing.items():
            known = result.get(id, Account())
            lifted_at = max(known.lifted_at, account.lifted_at)
            words = dict(known.words)
            for kind, word in account.words.items():
                words[kind] = max(word, words.get(kind, word), key=lambda one: one.at)
            left = {kind: word for kind, word in words.items() if word.at > lifted_at}
            result[id] = Account(lifted_at, left)
    return result


def in_force(standing: Standing, now: int) -> Iterator[tuple[str, Word]]:
    """What stands against which account now."""
    for id, account in standing.items():
        yield from ((id, word) for word in account.words.values() if now < word.until)


class _Value(msgspec.Struct):
    event: str = ""
    waba_info: Any = None
    ban_info: Any = None
    restriction_info: Any = None
    disconnection_info: Any = None


class _Update(msgspec.Struct):
    field: str
    value: _Value
    entry_id: Any = None
    time: Any = None


class _Body(msgspec.Struct):
    data: _Update


def standing_of(events: Iterable[Event]) -> dict[str, Account]:
    """What these say of accounts; nothing where they are about something else, or cannot be understood."""
    return joined(*(_read(event) for event in events if event.type == EventType.ACCOUNT_UPDATE))


def _read(event: Event) -> Standing:
    try:
        update = msgspec.json.decode(event.body, type=_Body).data
    except msgspec.MsgspecError:
        return {}
    value = update.value
    id = _text(_of(value.waba_info, "waba_id")) or _text(update.entry_id)
    if update.field != _FIELD or not id:
        return {}
    at = metas_time(update.time, event.at)
    ban = _text(_of(value.ban_info, "waba_ban_state"))
    if value.event in _LIFTS or ban == _REINSTATE:
        return {id: Account(lifted_at=at)}
    what, until = _what(value, ban)
    if not what:
        return {}
    word = Word(at, until or at + _FORGOTTEN_MS, f"{what} (account {id}). {_SEE}")
    return {id: Account(words={value.event: word})}


def _what(value: _Value, ban: str) -> tuple[str, int]:
    """What stands against the account, empty where nothing does; and until when, 0 where that is open."""
    if value.event == "ACCOUNT_RESTRICTION":
        return _restriction(value.restriction_info)
    if value.event == "DISABLED_UPDATE" and ban in _BANS:
        date = _text(_of(value.ban_info, "waba_ban_date"))
        return f"{_BANS[ban]}{f', as of {date}' if date else ''}", 0
    what = _ENDS.get(value.event, "")
    reason = _text(_of(value.disconnection_info, "reason"))
    return f"{what}: {reason}" if what and reason else what, 0


def _restriction(info: object) -> tuple[str, int]:
    parts = [part for part in info if isinstance(part, dict)] if isinstance(info, list) else []
    types = [kind for part in parts if (kind := _text(part.get("restriction_type")))]
    ends = [metas_time(part.get("expiration"), 0) for part in parts]
    what = f"Meta restricts the account{': ' if types else ''}{', '.join(types)}"
    # One whose end is not told keeps the whole.
    return what, max(ends) if ends and all(ends) else 0


def _of(part: object, name: str) -> object:
    return part.get(name) if isinstance(part, dict) else None


def _text(value: object) -> str:
    return value[:_MOST_TEXT] if isinstance(value, str) else ""
