"""The one table of paths, and the server that they are served by.

Owns which handler answers which path and what each is given. Nothing is started here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.web import Application, RequestHandler

from handlers.access import Access
from handlers.base import NothingHere
from handlers.broadcasts import Broadcasts
from handlers.contacts import ContactPage, ErasurePage
from handlers.conversations import ConversationList, ConversationMessages, MarkRead, ShowTyping
from handlers.dead_letters import DeadLetterList, DeadLetterPage, RetryDeadLetter, RetryDeadLetters
from handlers.docs import DocsAsset, DocsPage, Document, OpenApi
from handlers.events import EventPage, EventStream
from handlers.front import Front
from handlers.hooks import HookList, HookPage, PauseHook, ReplayHook, ResumeHook
from handlers.idempotency import Idempotency
from handlers.inward import SEND_OWN, SEND_TEXT, LetIn, SendFrames
from handlers.media import MediaDownload, MediaResource, MediaUpload
from handlers.message_life import Messages
from handlers.openapi import describe
from handlers.operations import operations
from handlers.resuming import NumbersResumption, TemplateResumption
from handlers.sandbox import SandboxFaults, SandboxInbound, SandboxWebhook
from handlers.sends import MANY, ONE
from handlers.sends_many import SendMany
from handlers.sends_one import SendOne
from handlers.socket import APPLICATION_SETTINGS, socket_routes
from handlers.status import Health, Overview, Ready, StatusPage
from handlers.subscribers import RemoveSubscriber, SubscriberList
from handlers.suppressions import SuppressionList, SuppressionPage
from handlers.tasks import CancelTask, RetryTask, TaskList, TaskMessages, TaskStatus
from handlers.templates import TemplateList
from handlers.upload_form import UploadDesk
from handlers.webhook import WebhookCheck, WebhookReceiver
from hub.frames import server_sent
from hub.hub import Hub
from hub.names import Names
from hub.outlets import Outlets
from store.base import Store
from store.log import Log
from whatsapp.contact_view import ContactViews
from whatsapp.contacts import Contacts
from whatsapp.conversations import Conversations
from whatsapp.dead_letters import DeadLetters
from whatsapp.erasure import Erasures
from whatsapp.media import Media
from whatsapp.message_life import MessageLives
from whatsapp.outbox import Outbox
from whatsapp.read_marks import ReadMarks
from whatsapp.resuming import Resuming
from whatsapp.sandbox import Sandbox
from whatsapp.suppressions import Suppressions
from whatsapp.task_control import TaskControl
from whatsapp.template_list import Templates
from whatsapp.windows import Windows

__all__ = ["make_server"]

_IDLE_S = 3600
_BODY_S = 60
_RETRY_MS = 1000
"""How long a browser waits before it opens a stream of events again."""


def make_server(
    *,
    access: Access,
    errors: Counter[str],
    receiver: WebhookReceiver,
    verify_token: str,
    outbox: Outbox,
    numbers: Sequence[str],
    direct_timeout_s: float,
    max_body_bytes: int,
    store: Store,
    log: Log,
    hub: Hub,
    names: Names,
    contacts: Contacts,
    erasures: Erasures,
    suppressions: Suppressions,
    windows: Windows,
    media: Media,
    uploads: UploadDesk,
    templates: Templates,
    read_marks: ReadMarks,
    outlets: Outlets,
    resuming: Resuming,
    overview: Overview,
    sandbox: Sandbox | None,
    idempotency: Idempotency,
    now_ms: Callable[[], int],
    version: str,
) -> HTTPServer:
    """The HTTP server, not listening yet. ``numbers``: those that send, the default first; ``sandbox``: None
    in earnest."""
    shared = {"access": access, "errors": errors, "idempotency": idempotency}
    control = TaskControl(store, now_ms=now_ms)
    tasks = {**shared, "store": store, "control": control, "now_ms": now_ms}
    dead = {**shared, "dead": DeadLetters(store, now_ms=now_ms), "contacts": contacts}
    hooks = {**shared, "outlets": outlets, "log": log}
    suppressed = {
        **shared,
        "store": store,
        "contacts": contacts,
        "suppressions": suppressions,
        "now_ms": now_ms,
    }
    sends = {
        **shared,
        "outbox": outbox,
        "templates": templates,
        "numbers": numbers,
        "direct_timeout_s": direct_timeout_s,
        "now_ms": now_ms,
    }
    read = {**shared, "hub": hub, "log": log}
    events = {**read, "resolve_contact": contacts.find_text}
    subscribers = {**read, "names": names, "store": store}
    conversations = Conversations(store)
    own = {**sends, "read_marks": read_marks, "lives": MessageLives(store, conversations)}
    views = ContactViews(store, contacts, windows, conversations, numbers)
    threads = {
        **shared,
        "conversations": conversations,
        "contacts": contacts,
        "read_marks": read_marks,
        "numbers": numbers,
    }
    document = Document(lambda: describe(operations(), version))
    routes: list[Any] = [
        (r"/webhook", WebhookCheck, {**shared, "verify_token": verify_token}),
        *((path, SendOne, {**sends, "send": send}) for path, send in ONE.items()),
        *((path, SendMany, {**sends, "send": send}) for path, send in MANY.items()),
        (r"/api/broadcasts", Broadcasts, sends),
        (r"/api/messages", Messages, own),
        (r"/api/task-status/([^/]+)", TaskStatus, tasks),
        (r"/api/tasks", TaskList, tasks),
        (r"/api/tasks/([^/]+)", TaskStatus, tasks),
        (r"/api/tasks/([^/]+)/messages", TaskMessages, tasks),
        (r"/api/tasks/([^/]+)/cancel", CancelTask, tasks),
        (r"/api/tasks/([^/]+)/retry", RetryTask, tasks),
        (r"/api/dead-letters", DeadLetterList, dead),
        (r"/api/dead-letters/retry", RetryDeadLetters, dead),
        (r"/api/dead-letters/([^/]+)", DeadLetterPage, dead),
        (r"/api/dead-letters/([^/]+)/retry", RetryDeadLetter, dead),
        (r"/api/suppressions", SuppressionList, suppressed),
        (r"/api/suppressions/([^/]+)", SuppressionPage, suppressed),
        (r"/api/conversations", ConversationList, threads),
        (r"/api/conversations/([^/]+)/messages", ConversationMessages, threads),
        (r"/api/conversations/([^/]+)/read", MarkRead, threads),
        (r"/api/conversations/([^/]+)/typing", ShowTyping, threads),
        (r"/api/contacts/([^/]+)", ContactPage, {**shared, "views": views, "erasures": erasures}),
        (r"/api/erasures/([^/]+)", ErasurePage, {**shared, "erasures": erasures}),
        (r"/api/media", MediaUpload, {**shared, "media": media, "desk": uploads}),
        (r"/api/media/([^/]+)", MediaResource, {**shared, "media": media, "numbers": numbers}),
        (r"/api/media/([^/]+)/download", MediaDownload, {**shared, "media": media, "numbers": numbers}),
        (r"/api/templates", TemplateList, {**shared, "templates": templates}),
        (r"/api/templates/resume", TemplateResumption, {**shared, "resuming": resuming}),
        (r"/api/numbers/resume", NumbersResumption, {**shared, "resuming": resuming, "numbers": numbers}),
        (r"/api/hooks", HookList, hooks),
        (r"/api/hooks/([^/]+)", HookPage, hooks),
        (r"/api/hooks/([^/]+)/pause", PauseHook, hooks),
        (r"/api/hooks/([^/]+)/resume", ResumeHook, hooks),
        (r"/api/hooks/([^/]+)/replay", ReplayHook, hooks),
        (r"/api/openapi\.json", OpenApi, {**shared, "document": document}),
        (r"/docs", DocsPage, shared),
        (r"/docs/([^/]+)", DocsAsset, shared),
        (r"/api/health", Health, shared),
        (r"/api/ready", Ready, {**shared, "overview": overview}),
        (r"/api/status", StatusPage, {**shared, "overview": overview}),
        (r"/api/events", EventPage, {**events, "waiting": set()}),
        (r"/api/events/stream", EventStream, {**events, "wire": server_sent(log.epoch, _RETRY_MS)}),
        (r"/api/subscribers", SubscriberList, subscribers),
        (r"/api/subscribers/([^/]+)", RemoveSubscriber, subscribers),
        *socket_routes(
            hub=hub,
            log=log,
            access=access,
            resolve_contact=contacts.find_text,
            names=names,
            send_op=SendFrames(
                [
                    (SEND_TEXT, SendOne, {**sends, "send": ONE[SEND_TEXT], "access": LetIn()}),
                    (SEND_OWN, Messages, {**own, "access": LetIn()}),
                ]
            ),
        ),
    ]
    if sandbox is not None:
        routes += [
            (r"/sandbox/inbound", SandboxInbound, {**shared, "sandbox": sandbox}),
            (r"/sandbox/webhook", SandboxWebhook, {**shared, "sandbox": sandbox}),
            (r"/sandbox/faults", SandboxFaults, {**shared, "sandbox": sandbox}),
        ]
    application = Application(
        routes,
        default_handler_class=NothingHere,
        default_handler_args=shared,
        log_function=_log_nothing,
        **APPLICATION_SETTINGS,
    )
    front = Front(application, receiver.respond, max_body_bytes=max_body_bytes, errors=errors)
    return HTTPServer(front, idle_connection_timeout=_IDLE_S, body_timeout=_BODY_S)


def _log_nothing(handler: RequestHandler) -> None:
    """No line per request: refusals are counted in /api/status, and faults are logged where they happen."""
