"""Where the settings come from: the environment, then ``.env``, then a TOML file, then the defaults.

Owns how a key is spelt in each of them, and the words that tell an operator what is wrong with a value. What
may be set is ``settings.py``. Read by ``server.py`` and ``cli.py``: the rest of the code takes values. Reads
the two files that it is given and nothing else; never changes ``os.environ``.

A key is named by its section and its name (``[lane] rate``). Its variable is the same in capitals with an
underscore (``LANE_RATE``); the keys of ``[server]`` and ``[whatsapp]`` go without their section (``PORT``).
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec
from dotenv import dotenv_values
from msgspec import inspect
from msgspec.structs import FieldInfo, fields

from automations import faults_of
from hub.outlets import INBOUND
from settings import (
    Key,
    Secret,
    Settings,
    StoreSettings,
    WhatsAppSettings,
    faults,
    handover_secret,
    hook_secret,
    is_loopback,
    shown,
    shown_store,
    sqlite_path,
)
from store.errors import GatewayError, Problem
from whatsapp.events import unknown_types
from whatsapp.validate import problem_of

__all__ = [
    "VERSION_ENDS",
    "ConfigError",
    "Settings",
    "changed_keys",
    "env_name",
    "files_of",
    "load",
    "shown_store",
    "sqlite_path",
]


class ConfigError(GatewayError):
    """The settings cannot be used: a line for each fault, and ``details`` with them as (key, why).

    ``notices``: keys that are not read, one of which may be a key that is missing.
    """

    code = "config"

    def __init__(self, problems: Iterable[Problem], notices: Iterable[str] = ()) -> None:
        found = tuple(dict.fromkeys(problems))
        super().__init__("\n".join(f"{key}: {why}" for key, why in found), found)
        self.notices = tuple(notices)


_SECTIONS: Mapping[str, Mapping[str, FieldInfo]] = {
    section.name: {field.name: field for field in fields(section.type)}
    for section in fields(Settings)
    if section.name != "notices"
}
_TOKEN: Key = ("whatsapp", "access_token")
_TOKEN_FILE: Key = ("whatsapp", "access_token_file")
_HANDOVERS: Key = ("autoreply", "handovers")
_UNPREFIXED = frozenset({"server", "whatsapp"})


def env_name(section: str, key: str) -> str:
    """The environment variable of a key."""
    return key.upper() if section in _UNPREFIXED else f"{section}_{key}".upper()


_VARIABLES: Mapping[str, Key] = {
    **{env_name(section, key): (section, key) for section, keys in _SECTIONS.items() for key in keys},
    "MONGODB_URL": ("store", "url"),
}
_NAMES = frozenset({*_VARIABLES, "CONFIG"})
_PREFIXES = tuple(f"{section.upper()}_" for section in _SECTIONS if section not in _UNPREFIXED)


def load(
    environ: Mapping[str, str], *, dotenv: Path | None, toml: Path | None, today: date | None = None
) -> Settings:
    """Read, check and combine the settings.

    ``dotenv`` and ``toml`` name files that may be absent; ``CONFIG`` in the environment or in ``dotenv``
    names another TOML file, which must be there. An empty text counts as not set. ``today`` decides whether a
    version of the Graph API is over.

    Raises ConfigError with all faults at once.
    """
    problems: list[Problem] = []
    layers, _, given = _gather(environ, dotenv, toml, problems)
    _take_token(given, problems)
    settings, bad = _build(given, problems)
    settings = _with_hook_secrets(settings, layers)
    numbers = [] if settings.sandbox_mode else [number.phone_number_id for number in settings.numbers]
    rules = faults_of(settings.autoreply, numbers) if _HANDOVERS not in bad else ()
    for keys, why in (*faults(settings), *rules):
        if bad.isdisjoint(keys):
            problems.append((_where(keys[0], given), why))
    unread = tuple(_variable_notices(layers[0], layers[1], str(dotenv), _hook_variables(settings)))
    if problems:
        raise ConfigError(problems, unread)
    whatsapp = msgspec.structs.replace(settings.whatsapp, base_url=settings.whatsapp.base_url.rstrip("/"))
    notices = (*unread, *_notices(settings, given, today or date.today()))
    return msgspec.structs.replace(settings, whatsapp=whatsapp, notices=notices)


def files_of(environ: Mapping[str, str], *, dotenv: Path, toml: Path) -> tuple[Path, ...]:
    """The files that :func:`load` reads as things stand; they may be absent."""
    _, table, given = _gather(environ, dotenv, toml, [])
    token = given.get(_TOKEN_FILE)
    files = (dotenv, table or toml)
    return (*files, Path(token.value)) if token and isinstance(token.value, str) else files


def changed_keys(old: Settings, new: Settings) -> tuple[str, ...]:
    """The variables of the keys with another value, access tokens and secrets of programs left out."""
    changed = []
    for section, keys in _SECTIONS.items():
        values = [getattr(settings, section) for settings in (old, new)]
        for key in keys:
            before, after = (_without_tokens(section, key, getattr(value, key)) for value in values)
            if before != after:
                changed.append(env_name(section, key))
    return tuple(changed)


def _without_tokens(section: str, key: str, value: Any) -> Any:
    if (section, key) in (_TOKEN, _TOKEN_FILE):
        return None
    if (section, key) == ("whatsapp", "numbers"):
        return [(number.phone_number_id, number.rate) for number in value]
    if (section, key) in (("hooks", "endpoints"), _HANDOVERS):
        return [msgspec.structs.replace(hook, secret=Secret()) for hook in value]
    return value


# Reading


class _Given(NamedTuple):
    where: str
    """The key as its user wrote it."""
    value: Any
    is_text: bool
    """From a variable, so numbers and lists are spelt out in a text."""


def _gather(
    environ: Mapping[str, str], dotenv: Path | None, toml: Path | None, problems: list[Problem]
) -> tuple[list[dict[str, str]], Path | None, dict[Key, _Given]]:
    """The variables of the environment and of ``.env``, the TOML file that counts, and all that is given."""
    layers = [_filled(environ), _filled(_read_dotenv(dotenv, problems))]
    named = next((layer["CONFIG"] for layer in layers if "CONFIG" in layer), "")
    path = Path(named) if named else toml
    given = _from_table(_read_toml(path, bool(named), problems), problems)
    for layer in reversed(layers):
        given |= _from_variables(layer, problems)
    return layers, path, given


def _take_token(given: dict[Key, _Given], problems: list[Problem]) -> None:
    """Put what the token's file holds in the place of the token."""
    entry = given.get(_TOKEN_FILE)
    if entry is None or not isinstance(entry.value, str):
        return
    if _TOKEN in given:
        problems.append((entry.where, f"contradicts {given[_TOKEN].where}: set one of them"))
        return
    try:
        token = Path(entry.value).read_text("utf-8-sig").strip()
    except (OSError, ValueError) as error:
        problems.append((entry.where, f"{entry.value!r} cannot be read: {error}"))
        return
    if token:
        given[_TOKEN] = _Given(entry.where, token, is_text=True)
    else:
        problems.append((entry.where, f"{entry.value!r} holds no token"))


def _hook_variables(settings: Settings) -> frozenset[str]:
    """Those of secrets, which follow from the names of hooks and of who messages are handed over to."""
    hooks = {hook_secret(hook.name) for hook in settings.hooks.endpoints}
    return frozenset(hooks | {handover_secret(program.name) for program in settings.autoreply.handovers})


def _with_hook_secrets(settings: Settings, layers: Sequence[Mapping[str, str]]) -> Settings:
    """Put what the variables of secrets hold into the place of the secrets."""
    found = {**layers[1], **layers[0]}
    endpoints = tuple(
        msgspec.structs.replace(hook, secret=Secret(found.get(hook_secret(hook.name), hook.secret)))
        for hook in settings.hooks.endpoints
    )
    programs = tuple(
        msgspec.structs.replace(one, secret=Secret(found.get(handover_secret(one.name), one.secret)))
        for one in settings.autoreply.handovers
    )
    return msgspec.structs.replace(
        settings,
        hooks=msgspec.structs.replace(settings.hooks, endpoints=endpoints),
        autoreply=msgspec.structs.replace(settings.autoreply, handovers=programs),
    )


def _filled(variables: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value.strip() for name, value in variables.items() if value and value.strip()}


def _read_dotenv(path: Path | None, problems: list[Problem]) -> Mapping[str, str | None]:
    if path is None:
        return {}
    try:
        return dotenv_values(path, encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        problems.append((str(path), f"cannot be read: {error}"))
        return {}


def _read_toml(path: Path | None, must_exist: bool, problems: list[Problem]) -> Mapping[str, Any]:
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_text("utf-8-sig"))
    except FileNotFoundError:
        if must_exist:
            problems.append(("CONFIG", f"there is no file {str(path)!r}"))
    except tomllib.TOMLDecodeError as error:
        problems.append((str(path), f"is not TOML: {error}"))
    except (OSError, ValueError) as error:
        problems.append(("CONFIG" if must_exist else str(path), f"{str(path)!r} cannot be read: {error}"))
    return {}


def _from_table(table: Mapping[str, Any], problems: list[Problem]) -> dict[Key, _Given]:
    given: dict[Key, _Given] = {}
    for section, keys in table.items():
        if not isinstance(keys, dict) or section not in _SECTIONS:
            problems.append(_misplaced(section, keys))
            continue
        for key, value in keys.items():
            where = f"[{section}] {key}"
            if key not in _SECTIONS[section]:
                problems.append((where, "is no known key" + _suggestion(section, key)))
            elif value != "":
                value = value.strip() if isinstance(value, str) else value
                given[section, key] = _Given(where, value, is_text=False)
    return given


def _misplaced(name: str, value: object) -> Problem:
    if isinstance(value, dict):
        return f"[{name}]", "is no known section" + _did_you_mean(name, _SECTIONS, "[{}]")
    if name in _SECTIONS:
        return name, f"is a section: write [{name}] and its keys below it"
    return name, "stands outside of any section" + _suggestion("", name)


def _suggestion(section: str, key: str) -> str:
    within = _did_you_mean(key, _SECTIONS.get(section, ()), f"[{section}] {{}}")
    if within:
        return within
    names = {other: f"[{home}] {other}" for home, keys in _SECTIONS.items() for other in keys}
    near = difflib.get_close_matches(key, names, 1)
    return f"; did you mean {names[near[0]]}?" if near else ""


def _did_you_mean(name: str, known: Iterable[str], form: str = "{}", *, cutoff: float = 0.6) -> str:
    near = difflib.get_close_matches(name, list(known), 1, cutoff)
    return f"; did you mean {form.format(near[0])}?" if near else ""


def _from_variables(variables: Mapping[str, str], problems: list[Problem]) -> dict[Key, _Given]:
    given: dict[Key, _Given] = {}
    for name, key in _VARIABLES.items():
        if name not in variables:
            continue
        earlier = given.get(key)
        if earlier and earlier.value != variables[name]:
            problems.append((name, f"contradicts {earlier.where}, which means the same; set one of them"))
        given[key] = _Given(name, variables[name], is_text=True)
    return given


# Converting


def _build(given: Mapping[Key, _Given], problems: list[Problem]) -> tuple[Settings, set[Key]]:
    """The settings, with the default in place of each value that cannot be used; and the keys of those."""
    values: dict[str, dict[str, Any]] = {section: {} for section in _SECTIONS}
    bad: set[Key] = set()
    for (section, key), entry in given.items():
        field = _SECTIONS[section][key]
        kind = inspect.type_info(field.type)
        try:
            if isinstance(entry.value, str) and not entry.value.isprintable() and not _is_tables(kind):
                raise ValueError("must not hold control characters or line ends")
            value = _from_text(entry.value, kind) if entry.is_text else entry.value
            values[section][key] = _convert(value, field, kind, strict=not entry.is_text)
        except ValueError as error:
            bad.add((section, key))
            problems.append((entry.where, str(error)))
    sections = {field.name: field.type for field in fields(Settings) if field.name in _SECTIONS}
    return Settings(**{name: kind(**values[name]) for name, kind in sections.items()}), bad


def _is_tables(kind: inspect.Type) -> bool:
    return isinstance(kind, inspect.VarTupleType) and isinstance(kind.item_type, inspect.StructType)


def _from_text(text: str, kind: inspect.Type) -> Any:
    if isinstance(kind, inspect.BoolType):
        return {"yes": "true", "on": "true", "no": "false", "off": "false"}.get(text.lower(), text)
    if _is_tables(kind):
        try:
            return msgspec.json.decode(text)
        except (msgspec.DecodeError, UnicodeError) as error:
            raise ValueError(f"must be JSON: {error}") from None
    if isinstance(kind, inspect.VarTupleType):
        return [item.strip() for item in text.split(",") if item.strip()]
    return text


def _convert(value: Any, field: FieldInfo, kind: inspect.Type, *, strict: bool) -> Any:
    try:
        return msgspec.convert(value, field.type, strict=strict, dec_hook=_make_secret)
    except msgspec.ValidationError as error:
        wanted = f"must be {_wanted(kind)}"
        if isinstance(kind, inspect.VarTupleType) and isinstance(kind.item_type, inspect.StructType):
            item = kind.item_type.cls
            wanted = _fault_in_tables(value, item, strict=strict) or f"{wanted}: {problem_of(error, item)[1]}"
        elif not isinstance(kind, inspect.CustomType):
            wanted += f", not {shown(value)}"
        raise ValueError(wanted) from None


def _fault_in_tables(tables: Any, item: type[msgspec.Struct], *, strict: bool) -> str:
    """What is wrong with the first that is at fault, which goes by its name, or by its number from 1; empty
    where they are no list."""
    for number, table in enumerate(tables if isinstance(tables, list) else (), 1):
        try:
            msgspec.convert(table, item, strict=strict, dec_hook=_make_secret)
        except msgspec.ValidationError as error:
            name = table.get("name", table.get("phone_number_id")) if isinstance(table, dict) else None
            which = shown(name) if isinstance(name, str) else str(number)
            return ": ".join(filter(None, (f"table {which}", *problem_of(error, item))))
    return ""


def _make_secret(kind: type, value: Any) -> Any:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return kind(value)


def _wanted(kind: inspect.Type) -> str:
    match kind:
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType():
            return f"a whole number {_range(kind)}"
        case inspect.FloatType():
            return f"a number {_range(kind)}"
        case inspect.LiteralType():
            return " or ".join(sorted(map(str, kind.values), reverse=True))
        case inspect.VarTupleType():
            return "a list of tables" if _is_tables(kind) else "a list of texts"
        case _:
            return "a text, in quotes"


def _range(kind: inspect.IntType | inspect.FloatType) -> str:
    low = f"over {kind.gt:.0f}" if kind.gt is not None else f"from {kind.ge:.0f}"
    return f"{low} up to {kind.le:.0f}"


def _where(key: Key, given: Mapping[Key, _Given]) -> str:
    return given[key].where if key in given else env_name(*key)


# Notices

VERSION_ENDS: Mapping[int, date] = {
    20: date(2026, 9, 24),
    21: date(2027, 1, 21),
    22: date(2027, 5, 20),
    23: date(2027, 10, 8),
    24: date(2028, 2, 18),
    25: date(2028, 7, 29),
}
"""When each major version of the Graph API ends; older ones are over (CLOUD_API_2026.md 13)."""
_WARN_BEFORE = timedelta(days=90)


def _notices(settings: Settings, given: Mapping[Key, _Given], today: date) -> Iterator[str]:
    yield from _version_notices(settings.whatsapp.version, today)
    yield from _outside_notices(settings)
    yield from _handover_notices(settings)
    yield from _rule_notices(settings)
    if settings.sandbox_mode:
        if settings.store != StoreSettings():
            yield f"{_where(('store', 'url'), given)} is not used by the sandbox, which has SANDBOX_STORE_URL"
        return
    if not settings.app_secrets:
        yield "APP_SECRET is not set: webhooks are taken without checking that they come from Meta"
    if not settings.server.api_key and not is_loopback(settings.server.host):
        who = " and ".join(("this machine", *settings.security.trusted_networks))
        yield f"API_KEY is not set: HOST is {settings.server.host}, but only {who} may send and read"


def _handover_notices(settings: Settings) -> Iterator[str]:
    for program in settings.autoreply.handovers:
        if not program.secret:
            yield f"{handover_secret(program.name)} is not set: it cannot tell who posts to it"
        if program.url.startswith("http:") and not is_loopback(urlsplit(program.url).hostname or ""):
            yield f"[[autoreply.handovers]] {program.name}: http:// carries what customers write in the clear"


def _rule_notices(settings: Settings) -> Iterator[str]:
    kept = settings.retention.days
    for rule in settings.autoreply.rules:
        for conditions in (rule, rule.unless):
            if conditions and (conditions.first_within_days or 0) > kept:
                yield (
                    f"[[autoreply.rules]] {rule.name}: first_within_days looks back {kept:g} days at most, "
                    "as far as conversations are kept (retention.days)"
                )


def _outside_notices(settings: Settings) -> Iterator[str]:
    yield from _type_notices("[relay] types", settings.relay.types)
    for hook in settings.hooks.endpoints:
        yield from _type_notices(f"[[hooks.endpoints]] {hook.name}: types", hook.types)
        if not hook.secret:
            yield f"{hook_secret(hook.name)} is not set: its receiver cannot tell who posts to it"
        if hook.url.startswith("http:") and not is_loopback(urlsplit(hook.url).hostname or ""):
            yield f"[[hooks.endpoints]] {hook.name}: http:// carries what customers write in the clear"


def _type_notices(where: str, types: Iterable[str]) -> Iterator[str]:
    for type in unknown_types(sorted(set(types) - {INBOUND})):
        yield f"{where}: {type} is no event of this version, nothing is sent for it"


def _version_notices(version: str, today: date) -> Iterator[str]:
    major = int(version[1:].partition(".")[0])
    ends = VERSION_ENDS.get(major, date.min if major < min(VERSION_ENDS) else date.max)
    default = WhatsAppSettings().version
    if ends <= today:
        yield f"VERSION: Meta's {version} is over and calls may fail: set VERSION={default}"
    elif ends - today <= _WARN_BEFORE:
        yield f"VERSION: Meta's {version} ends on {ends}: set VERSION={default}"


def _variable_notices(
    environment: Mapping[str, str], dotenv: Mapping[str, str], file: str, hooks: frozenset[str]
) -> Iterator[str]:
    """What is not read: of ``.env``, which is ours, every key; elsewhere what looks meant for us."""
    if "REDIS_URL" in environment or "REDIS_URL" in dotenv:
        yield "REDIS_URL is ignored: the queue is in the store (STORE_URL)"
    for name in sorted(dotenv.keys() - _NAMES - hooks - {"REDIS_URL"}):
        yield f"{file}: {name} is not a setting{_meant(name) or _did_you_mean(name.upper(), _NAMES)}"
    for name in sorted(environment.keys() - _NAMES - hooks - {"REDIS_URL"} - dotenv.keys()):
        if meant := _meant(name) or _did_you_mean(name, _NAMES, cutoff=0.9):
            yield f"{name} is not a setting{meant}"
        elif name.startswith(_PREFIXES):
            yield f"{name} is not a setting{_did_you_mean(name, _NAMES)}"


def _meant(name: str) -> str:
    """The variable of a key that was written with the section that it goes without."""
    section, _, key = name.lower().partition("_")
    known = section in _UNPREFIXED and key in _SECTIONS[section]
    return f"; its variable is {env_name(section, key)}" if known else ""
