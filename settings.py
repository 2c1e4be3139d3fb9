"""The settings: every key with its default and its limits, and the rules between keys.

Owns what may be set and what it means. Knows nothing of where a value comes from: that is ``config.py``, the
only reader of this module beside ``server.py`` and ``cli.py``. A new key is a field here, and a line in the
example file.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from hub.outlets import selection
from store.errors import GatewayError

__all__ = [
    "RELAY",
    "AutoReplyRule",
    "AutoReplySettings",
    "DirectSettings",
    "DrainSettings",
    "Fault",
    "GraphSettings",
    "HandOverSettings",
    "HookSettings",
    "HooksSettings",
    "HubSettings",
    "Key",
    "LaneSettings",
    "LeaseSettings",
    "MediaSettings",
    "NumberSettings",
    "OptOutSettings",
    "RelaySettings",
    "RetentionSettings",
    "RetrySettings",
    "RuleConditions",
    "SandboxSettings",
    "Secret",
    "SecuritySettings",
    "ServerSettings",
    "Settings",
    "StoreSettings",
    "UnknownSettings",
    "WhatsAppSettings",
    "faults",
    "handover_secret",
    "hook_secret",
    "is_loopback",
    "shown",
    "shown_store",
    "sqlite_path",
]

Key = tuple[str, str]
"""(section, name)"""
Fault = tuple[tuple[Key, ...], str]
"""The keys that it hangs on, the one to change first, and what is wrong."""
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_SHOWN = 60


class Secret(str):
    """A text that ``repr`` does not show, so that printed settings and tracebacks do not either."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'" if self else "''"


Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Wait = Annotated[float, Meta(ge=0, le=86_400)]
LongSeconds = Annotated[float, Meta(gt=0, le=30 * 86_400)]
Types = Annotated[tuple[str, ...], Meta(min_length=1)]
Headers = tuple[Secret, ...]
"""Each ``Name: value``."""
Rate = Annotated[float, Meta(gt=0, le=1_000_000)]
Count = Annotated[int, Meta(ge=1, le=1_000_000)]


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class ServerSettings(_Section, frozen=True):
    """Where the gateway listens, and who may call it."""

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535)] = 5000
    """0: any free one."""
    api_key: Secret = Secret()
    debug: bool = False
    max_body_bytes: Annotated[int, Meta(ge=1024, le=256 * 1024 * 1024)] = 64 * 1024 * 1024
    """Of a REST call: 100,000 recipients come in one. The webhook has a limit of its own."""


class NumberSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A number that sends; without a token or a rate of its own it has those of ``whatsapp`` and ``lane``."""

    phone_number_id: Annotated[str, Meta(min_length=1, max_length=64)]
    access_token: Secret = Secret()
    rate: Rate | None = None


class WhatsAppSettings(_Section, frozen=True):
    """What Meta gave the business, and where Meta is."""

    verify_token: Secret = Secret()
    access_token: Secret = Secret()
    access_token_file: str = ""
    """A file that holds nothing but ``access_token``, which is then not set itself."""
    phone_number_id: str = ""
    version: str = "v26.0"
    base_url: str = "https://graph.facebook.com"
    app_secret: Secret = Secret()
    app_secret_previous: Secret = Secret()
    """Still accepted on webhooks while ``app_secret`` replaces it."""
    waba_id: str = ""
    websocket_url: Secret = Secret()
    """An outside server that events are pushed to, see ``RelaySettings``."""
    numbers: tuple[NumberSettings, ...] = ()
    """Further numbers that send; ``phone_number_id`` is the one that does where none is named."""


class StoreSettings(_Section, frozen=True):
    """Where everything durable is."""

    url: Secret = Secret("sqlite:///data/gateway.db")
    wait_s: Wait = 30.0
    """For a MongoDB that is away when the gateway starts."""


class LaneSettings(_Section, frozen=True):
    """How one sending number is worked."""

    rate: Rate = 80.0
    """Messages a second; over 1,000, Meta's own cap for a number, only where ``base_url`` is this machine."""
    raised_rate: Rate = 1000.0
    """The same for numbers whose throughput Meta has raised; not where ``rate`` is below Meta's usual 80, nor
    for numbers with a rate of their own."""
    pair_burst: Count = 45
    pair_interval_s: Seconds = 6.0
    concurrency: Annotated[int, Meta(ge=1, le=10_000)] = 256
    read_ahead: Annotated[int, Meta(ge=1, le=100_000)] = 1000
    probe_s: Seconds = 5.0
    template_hold_s: Seconds = 86_400.0
    """How long a message waits for a template that Meta has stopped, before it fails."""


class RetrySettings(_Section, frozen=True):
    """When a failed attempt is made again."""

    max_attempts: Annotated[int, Meta(ge=1, le=100)] = 8
    base_s: Seconds = 1.0
    cap_s: Seconds = 300.0
    max_spared: Annotated[int, Meta(ge=0, le=10_000)] = 100


class UnknownSettings(_Section, frozen=True):
    """What becomes of a message of which nobody knows whether it was sent."""

    grace_s: Seconds = 120.0
    action: Literal["resend", "fail"] = "resend"


class OrderedSettings(_Section, frozen=True):
    """Messages whose successors wait for them."""

    timeout_s: Seconds = 300.0


class DirectSettings(_Section, frozen=True):
    """Sends whose caller waits for the outcome."""

    timeout_s: Seconds = 30.0


class DrainSettings(_Section, frozen=True):
    """The way down."""

    timeout_s: Seconds = 20.0


class GraphSettings(_Section, frozen=True):
    """Calls to Meta."""

    connect_timeout_s: Seconds = 5.0
    answer_timeout_s: Seconds = 20.0


class HubSettings(_Section, frozen=True):
    """Subscribers of ``/ws`` and ``/api/events/stream``."""

    buffer_bytes: Annotated[int, Meta(ge=1024, le=1024 * 1024 * 1024)] = 1024 * 1024
    max_subscribers: Count = 20_000
    max_names: Annotated[int, Meta(ge=0, le=100_000)] = 1000
    """Subscribers whose place is kept under a name."""


class RelaySettings(_Section, frozen=True):
    """What is pushed to ``whatsapp.websocket_url``, and how."""

    types: Types = ("inbound",)
    phone_number_id: str = ""
    token: Secret = Secret()
    headers: Headers = ()
    ack: bool = False
    """Whether the server acknowledges what it has taken."""
    connect_timeout_s: Seconds = 5.0
    answer_timeout_s: Seconds = 15.0
    max_age_s: LongSeconds = 3600.0
    """How long an event is tried that the server cannot take."""


class HookSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An outside address that events are posted to."""

    name: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")]
    url: Secret
    secret: Secret = Secret()
    types: Types = ("inbound",)
    phone_number_id: str = ""
    headers: Headers = ()
    batch: Annotated[int, Meta(ge=1, le=100)] = 1
    on_refused: Literal["skip", "pause"] = "skip"


class HooksSettings(_Section, frozen=True):
    """Outbound webhooks."""

    connect_timeout_s: Seconds = 5.0
    answer_timeout_s: Seconds = 15.0
    retry_base_s: Seconds = 1.0
    retry_cap_s: Seconds = 300.0
    max_age_s: LongSeconds = 3600.0
    pause_after_s: LongSeconds = 259_200.0
    endpoints: Annotated[tuple[HookSettings, ...], Meta(max_length=32)] = ()


class LeaseSettings(_Section, frozen=True):
    """How long a process holds a lane before it must ask again."""

    ttl_s: Seconds = 15.0


Word = Annotated[str, Meta(min_length=1, max_length=64)]


class RuleConditions(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """What must hold of a customer's message: all that is given, and of each list one."""

    keywords: tuple[Word, ...] = ()
    """Words, or phrases, anywhere in the text; case and accents are ignored."""
    texts: tuple[Annotated[str, Meta(min_length=1, max_length=256)], ...] = ()
    """The whole text, compared in the same way."""
    patterns: tuple[Annotated[str, Meta(min_length=1, max_length=1000)], ...] = ()
    """Regular expressions of RE2's, anywhere in the text; case is ignored."""
    types: tuple[Word, ...] = ()
    """Meta's kinds of messages: ``text``, ``image``, ``location``, ..."""
    buttons: tuple[Annotated[str, Meta(min_length=1, max_length=256)], ...] = ()
    """Ids of buttons and rows that were chosen."""
    numbers: tuple[Word, ...] = ()
    """Our numbers (phone_number_id) that were written to."""
    hours: tuple[str, ...] = ()
    timezone: str = ""
    first_contact: bool = False
    """The contact has never written before, to any of our numbers."""
    first_within_days: Annotated[float, Meta(gt=0, le=365)] | None = None
    """The contact has not written for so long."""


class AutoReplyRule(
    RuleConditions, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """Answers a message, or hands it over, where its conditions hold and those of ``unless`` do not."""

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    unless: RuleConditions | None = None
    always: bool = False
    """For a rule without a condition."""
    text: Annotated[str, Meta(max_length=4096)] = ""
    """At most 4,096 long (CLOUD_API.md 1.3)."""
    message: dict[str, Any] | None = None
    """Meta's message object, without to whom."""
    send: dict[str, Any] | None = None
    """``kind`` and the fields of ``/api/send-<kind>``, without to whom."""
    hand_over: str = ""
    """The name of one of ``handovers``."""
    stop: bool = True
    """Whether the rules after it are passed over where it acts."""
    cooldown_s: Annotated[float, Meta(ge=0, le=2_592_000)] | None = None
    """In place of that of the section; at most 30 days."""


class HandOverSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A program that rules hand messages over to."""

    name: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")]
    url: Secret
    secret: Secret = Secret()
    headers: Headers = ()


_DEFAULT_RULES = (
    AutoReplyRule(
        name="greeting",
        keywords=("hola", "hello"),
        text="¡Hola! 👋 Gracias por escribirnos. ¿En qué podemos ayudarte? "
        "Escribe *ayuda* para ver las opciones.",
    ),
    AutoReplyRule(
        name="help",
        keywords=("ayuda", "help"),
        text="Con gusto te ayudamos. Escribe *info* para saber más de nosotros, *contacto* para hablar con "
        "una persona, o cuéntanos aquí mismo lo que necesitas.",
    ),
    AutoReplyRule(
        name="info",
        keywords=("info",),
        text="¡Gracias por tu interés! Cuéntanos qué te gustaría saber y te responderemos por este chat.",
    ),
    AutoReplyRule(
        name="contact",
        keywords=("contacto",),
        text="Estamos en este mismo chat: déjanos tu mensaje y una persona de nuestro equipo te responderá "
        "lo antes posible.",
    ),
)


class AutoReplySettings(_Section, frozen=True):
    """What is done by rules with what customers write."""

    enabled: bool = True
    cooldown_s: Annotated[float, Meta(ge=0, le=86_400)] = 60.0
    """The same contact gets the same rule's answer at most once in this time."""
    max_age_s: Seconds = 300.0
    """An older message is no longer answered."""
    timezone: str = "UTC"
    """Of the hours of rules."""
    max_per_minute: Count = 20
    """Times that rules act for one contact within a minute, so that two machines do not talk for ever."""
    handover_timeout_s: Seconds = 15.0
    """For the answer of a program that a message is handed over to."""
    handovers: Annotated[tuple[HandOverSettings, ...], Meta(max_length=32)] = ()
    rules: tuple[AutoReplyRule, ...] = _DEFAULT_RULES


class OptOutSettings(_Section, frozen=True):
    """Words by which customers opt out of broadcasts, and come back. Case, accents and punctuation are
    ignored; a message counts that says one of them and nothing else."""

    words: tuple[str, ...] = (
        "stop",
        "baja",
        "darme de baja",
        "unsubscribe",
        "stop promotions",
        "detener promociones",
    )
    """The last two are Meta's own button on marketing templates."""
    return_words: tuple[str, ...] = ("start", "alta", "darme de alta", "subscribe")


class RetentionSettings(_Section, frozen=True):
    """How long what happened, and messages that have ended, are kept."""

    days: Annotated[int, Meta(ge=35, le=3650)] = 35
    """Not less than 35: Meta's statuses come up to 30 days late."""
    events_days: Annotated[int, Meta(ge=8, le=3650)] = 35
    """Of the log alone. Not less than 8: Meta repeats its webhooks for 7, and what is not there is new."""


class MediaSettings(_Section, frozen=True):
    """Files that customers send, kept on this machine."""

    dir: Annotated[str, Meta(min_length=1)] = "data/media"
    days: Annotated[int, Meta(ge=0, le=3650)] = 0
    """How long they are kept; 0: they are not fetched at all, and stay with Meta for seven days."""


class SecuritySettings(_Section, frozen=True):
    """What may be reached without a key."""

    insecure: bool = False
    trusted_networks: tuple[str, ...] = ()

    @property
    def networks(self) -> tuple[Network, ...]:
        """``trusted_networks``, parsed."""
        return tuple(ipaddress.ip_network(network) for network in self.trusted_networks)


class SandboxSettings(_Section, frozen=True):
    """The sandbox that plays Meta while there are no credentials."""

    store_url: Secret = Secret("sqlite:///data/sandbox.db")
    rate: Rate = 80.0
    """Messages a second that the played Meta takes from a number."""
    status_webhooks: bool = True


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All of it. ``repr`` shows no secret."""

    server: ServerSettings = ServerSettings()
    whatsapp: WhatsAppSettings = WhatsAppSettings()
    store: StoreSettings = StoreSettings()
    lane: LaneSettings = LaneSettings()
    retry: RetrySettings = RetrySettings()
    unknown: UnknownSettings = UnknownSettings()
    ordered: OrderedSettings = OrderedSettings()
    direct: DirectSettings = DirectSettings()
    drain: DrainSettings = DrainSettings()
    graph: GraphSettings = GraphSettings()
    hub: HubSettings = HubSettings()
    relay: RelaySettings = RelaySettings()
    hooks: HooksSettings = HooksSettings()
    lease: LeaseSettings = LeaseSettings()
    autoreply: AutoReplySettings = AutoReplySettings()
    opt_out: OptOutSettings = OptOutSettings()
    retention: RetentionSettings = RetentionSettings()
    media: MediaSettings = MediaSettings()
    security: SecuritySettings = SecuritySettings()
    sandbox: SandboxSettings = SandboxSettings()
    notices: tuple[str, ...] = ()
    """Lines for the operator that do not stop the start."""

    @property
    def sandbox_mode(self) -> bool:
        """Whether the sandbox plays Meta: there is neither an access token nor a number to send from."""
        return not (self.whatsapp.access_token or self.whatsapp.phone_number_id)

    @property
    def store_url(self) -> Secret:
        """The store to open. The sandbox has its own, so that nothing queued there can reach real people."""
        return self.sandbox.store_url if self.sandbox_mode else self.store.url

    @property
    def numbers(self) -> tuple[NumberSettings, ...]:
        """All that send, each with its token; the first is the default."""
        whatsapp = self.whatsapp
        first = NumberSettings(phone_number_id=whatsapp.phone_number_id, access_token=whatsapp.access_token)
        return (
            first,
            *(
                msgspec.structs.replace(
                    number,
                    access_token=number.access_token or whatsapp.access_token,
                )
                for number in whatsapp.numbers
            ),
        )

    @property
    def app_secrets(self) -> tuple[str, ...]:
        """Every secret that may have signed a webhook; empty where none is set."""
        whatsapp = self.whatsapp
        return tuple(secret for secret in (whatsapp.app_secret, whatsapp.app_secret_previous) if secret)


def sqlite_path(url: str) -> Path | None:
    """The file that a ``sqlite:///`` URL names (four slashes: absolute); None for any other store."""
    return Path(url.removeprefix("sqlite:///")) if url.startswith("sqlite:///") else None


def shown_store(url: str) -> str:
    """A usable store's URL for the eyes of an operator: without user, password and options."""
    path = sqlite_path(url)
    if path is not None:
        return f"SQLite, {path}"
    parts = urlsplit(url)
    return f"MongoDB, {parts.netloc.rpartition('@')[2]}{parts.path}"


def shown(value: object) -> str:
    """A value for the eyes of an operator, on one line and not too long."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


_ID = r"[0-9A-Za-z_-]*"
_HOST, _API_KEY, _SECRET = ("server", "host"), ("server", "api_key"), ("whatsapp", "app_secret")
_ACCESS, _NUMBER = ("whatsapp", "access_token"), ("whatsapp", "phone_number_id")
_BASE = ("whatsapp", "base_url")
_NUMBERS = ("whatsapp", "numbers")
_HOOKS = ("hooks", "endpoints")
_OURS = frozenset({"host", "connection", "upgrade", "transfer-encoding"})
RELAY = "relay"
"""The name of the receiver at ``whatsapp.websocket_url``, among hooks."""


def faults(settings: Settings) -> Iterator[Fault]:
    """What is wrong with values that each lie within their limits."""
    yield from _check_credentials(settings)
    yield from _check_exposure(settings)
    yield from _check_forms(settings)
    yield from _check_base_url(settings)
    yield from _check_stores(settings)
    yield from _check_outside(settings)
    yield from _check_opt_out(settings)
    yield from _check_handovers(settings)
    if settings.retry.cap_s < settings.retry.base_s:
        yield (("retry", "cap_s"), ("retry", "base_s")), "must not be less than [retry] base_s"
    names = [rule.name for rule in settings.autoreply.rules]
    if twice := [name for n, name in enumerate(names) if name in names[:n]]:
        yield (("autoreply", "rules"),), f"gives two rules the same name, {shown(twice[0])}"


def _check_opt_out(settings: Settings) -> Iterator[Fault]:
    both = {word.casefold() for word in settings.opt_out.words} & {
        word.casefold() for word in settings.opt_out.return_words
    }
    if both:
        yield (
            (("opt_out", "words"), ("opt_out", "return_words")),
            f"has {shown(min(both))} in common with them",
        )


def _check_credentials(settings: Settings) -> Iterator[Fault]:
    if settings.sandbox_mode:
        if settings.whatsapp.numbers:
            why = "needs ACCESS_TOKEN, VERIFY_TOKEN and PHONE_NUMBER_ID, which sends where no number is named"
            yield (_NUMBERS, _ACCESS, _NUMBER), why
        if not is_loopback(settings.server.host):
            why = "must be 127.0.0.1: without ACCESS_TOKEN and PHONE_NUMBER_ID only the sandbox runs"
            yield (_HOST, _ACCESS, _NUMBER), why
        return
    for name in ("verify_token", "access_token", "phone_number_id"):
        if not getattr(settings.whatsapp, name):
            why = "is missing: set VERIFY_TOKEN, ACCESS_TOKEN and PHONE_NUMBER_ID, or none for the sandbox"
            yield (("whatsapp", name), _ACCESS, _NUMBER), why


def _check_exposure(settings: Settings) -> Iterator[Fault]:
    server, whatsapp, security = settings.server, settings.whatsapp, settings.security
    if whatsapp.app_secret_previous and not whatsapp.app_secret:
        yield (_SECRET, ("whatsapp", "app_secret_previous")), "is missing, while APP_SECRET_PREVIOUS is set"
    for text in security.trusted_networks:
        why = _network_fault(text, security.insecure)
        if why:
            yield (("security", "trusted_networks"),), why
    if settings.sandbox_mode or security.insecure or is_loopback(server.host):
        return
    for key, value in ((_API_KEY, server.api_key), (_SECRET, whatsapp.app_secret)):
        if not value:
            why = f"is missing: HOST {shown(server.host)} is open to others; set it, or HOST=127.0.0.1"
            yield (key, _HOST, ("security", "insecure")), why


def _network_fault(text: str, insecure: bool) -> str:
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        return f"must be networks such as 10.0.0.0/8, not {shown(text)}"
    if network.prefixlen == 0 and not insecure:
        return f"must not trust the whole world ({shown(text)}) unless SECURITY_INSECURE=true"
    return ""


def _check_forms(settings: Settings) -> Iterator[Fault]:
    whatsapp = settings.whatsapp
    if re.search(r"[\s/\[\]]", settings.server.host):
        yield (_HOST,), "must be a bare name or address, such as 127.0.0.1 or ::1"
    for section, name in (_API_KEY, _ACCESS, _SECRET, ("whatsapp", "app_secret_previous")):
        if not re.fullmatch(r"[!-~]*", getattr(getattr(settings, section), name)):
            yield ((section, name),), "must be plain ASCII without blanks"
    for name in ("phone_number_id", "waba_id"):
        if not re.fullmatch(_ID, getattr(whatsapp, name)):
            yield (("whatsapp", name),), "must be an id as Meta's dashboard shows it: digits, no phone number"
    yield from _check_numbers(settings)
    if not re.fullmatch(r"v[0-9]{1,3}\.[0-9]{1,2}", whatsapp.version):
        why = f"must be a version of the Graph API such as v26.0, not {shown(whatsapp.version)}"
        yield (("whatsapp", "version"),), why
    if whatsapp.websocket_url and _host_of(whatsapp.websocket_url, ("ws", "wss")) is None:
        yield (("whatsapp", "websocket_url"),), "must be a ws:// or wss:// address"


def _check_numbers(settings: Settings) -> Iterator[Fault]:
    for number in settings.whatsapp.numbers:
        if not re.fullmatch(_ID, number.phone_number_id):
            yield (
                (_NUMBERS,),
                f"must hold ids as Meta's dashboard shows them, not {shown(number.phone_number_id)}",
            )
        if not re.fullmatch(r"[!-~]*", number.access_token):
            yield (_NUMBERS,), "must hold tokens that are plain ASCII without blanks"
    ids = [number.phone_number_id for number in settings.numbers]
    if len(set(ids)) < len(ids):
        yield (_NUMBERS, _NUMBER), "names a number twice"


def _check_base_url(settings: Settings) -> Iterator[Fault]:
    url = settings.whatsapp.base_url
    host = _host_of(url, ("https", "http"))
    if host is None or re.search(r"[?#@\s]", url):
        yield (_BASE,), f"must be an https:// address, not {shown(url)}"
    elif url.startswith("http:") and not is_loopback(host):
        yield (_BASE,), "must begin with https://, or the access token would travel in the clear"
    if is_loopback(host or ""):
        return
    for name in ("rate", "raised_rate"):
        if getattr(settings.lane, name) > 1000:
            yield (("lane", name), _BASE), "must be at most 1000, Meta's cap for a number"
    if any((number.rate or 0) > 1000 for number in settings.whatsapp.numbers):
        yield (_NUMBERS, _BASE), "must hold rates of at most 1000, Meta's cap for a number"


def hook_secret(name: str) -> str:
    """The environment variable of a hook's secret."""
    return f"HOOKS_{name.upper().replace('-', '_')}_SECRET"


def _check_outside(settings: Settings) -> Iterator[Fault]:
    """Who hears of events: the relay's server, and hooks."""
    relay, hooks = settings.relay, settings.hooks
    for name, why in (("types", _types_fault(relay.types)), ("headers", _headers_fault(relay.headers))):
        if why:
            yield (("relay", name),), why
    if not re.fullmatch(r"[!-~]*", relay.token):
        yield (("relay", "token"),), "must be plain ASCII without blanks"
    if hooks.retry_cap_s < hooks.retry_base_s:
        yield (
            (("hooks", "retry_cap_s"), ("hooks", "retry_base_s")),
            "must not be less than [hooks] retry_base_s",
        )
    for hook in hooks.endpoints:
        for why in filter(None, (_url_fault(hook), _types_fault(hook.types), _headers_fault(hook.headers))):
            yield (_HOOKS,), f"endpoint {hook.name!r}: {why}"
    variables = [hook_secret(hook.name) for hook in hooks.endpoints]
    if len(set(variables)) < len(variables):
        yield (_HOOKS,), "gives two endpoints the same name, or names that differ by a dash only"
    if any(hook.name == RELAY for hook in hooks.endpoints):
        yield (_HOOKS,), f"must not name an endpoint {RELAY!r}, which is what WEBSOCKET_URL is called"


def handover_secret(name: str) -> str:
    """The environment variable of the secret of who messages are handed over to."""
    return f"AUTOREPLY_{name.upper().replace('-', '_')}_SECRET"


def _check_handovers(settings: Settings) -> Iterator[Fault]:
    key: Key = ("autoreply", "handovers")
    programs = settings.autoreply.handovers
    for program in programs:
        for why in filter(None, (_url_fault(program), _headers_fault(program.headers))):
            yield (key,), f"{program.name!r}: {why}"
    variables = [handover_secret(program.name) for program in programs]
    if len(set(variables)) < len(variables):
        yield (key,), "gives two the same name, or names that differ by a dash only"


def _url_fault(hook: HookSettings | HandOverSettings) -> str:
    fits = _host_of(hook.url, ("https", "http")) and re.fullmatch(r"[!-~]+", hook.url)
    return "" if fits else "url must be an https:// or http:// address"


def _types_fault(types: tuple[str, ...]) -> str:
    try:
        selection(types)
    except GatewayError as error:
        return error.message
    return ""


def _headers_fault(headers: Headers) -> str:
    for header in headers:
        name, colon, value = header.partition(":")
        if not (colon and re.fullmatch(r"[A-Za-z0-9!#$&'*+.^_`|~-]+", name) and value.isprintable()):
            return "headers must each be written 'Name: value'"
        if not value.isascii():
            return f"header {name} must be plain ASCII"
        if name.lower().startswith(("x-gateway-", "content-", "sec-websocket-")) or name.lower() in _OURS:
            return f"header {name} is the gateway's own"
    return ""


def _check_stores(settings: Settings) -> Iterator[Fault]:
    real, sandbox = settings.store.url, settings.sandbox.store_url
    for key, url in ((("store", "url"), real), (("sandbox", "store_url"), sandbox)):
        why = _store_fault(url)
        if why:
            yield (key,), why
    if _identity(real) == _identity(sandbox):
        why = "must be another store than STORE_URL, or what was queued in the sandbox would be sent for real"
        yield (("sandbox", "store_url"), ("store", "url")), why


def _store_fault(url: str) -> str:
    path = sqlite_path(url)
    if path is not None:
        if str(path) in ("", ".", ":memory:") or "?" in url or url.endswith("/"):
            return "must name a file, such as sqlite:///data/gateway.db"
        return ""
    if _host_of(url, ("mongodb", "mongodb+srv")) is None:
        return "must begin with sqlite:/// (and a path) or mongodb:// (and a host)"
    return ""


def _identity(url: str) -> str:
    path = sqlite_path(url)
    return url if path is None else os.path.normcase(os.path.abspath(path))


def _host_of(url: str, schemes: tuple[str, ...]) -> str | None:
    """The host of a URL of one of these schemes; None where it is none."""
    try:
        parts = urlsplit(url)
        # A MongoDB URL may list several hosts, each with its port; elsewhere a port out of range raises.
        fits = url.startswith(tuple(f"{scheme}://" for scheme in schemes))
        return parts.hostname if fits and ("mongodb" in schemes or parts.port != 0) else None
    except ValueError:
        return None


def is_loopback(host: str) -> bool:
    """Whether this name or address means this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() in ("localhost", "ip6-localhost")
