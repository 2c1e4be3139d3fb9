"""The gateway's composition root: ``python server.py``.

Read :meth:`Gateway.start` from top to bottom and you know the whole system; :meth:`Gateway.stop` is the same
backwards. Nothing here decides anything about messages. What may be asked of the program is in ``cli.py``.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import random
import resource
import socket
import sys
import time
import uuid
from collections import Counter
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from msgspec.structs import replace
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets

import automations
import cli
import config
import receivers
import reloading
from handlers.access import Access
from handlers.idempotency import Idempotency
from handlers.routes import make_server
from handlers.status import Overview
from handlers.upload_form import UploadDesk
from handlers.webhook import WebhookReceiver
from hub.hub import Hub
from hub.names import Names
from settings import Secret
from store.base import Store
from store.consumer import Consumer, OnSkip
from store.errors import GatewayError, StoreUnavailable
from store.log import Log
from store.monitor import StoreMonitor
from store.states import State
from whatsapp.account_watch import AccountWatch
from whatsapp.autoreply import AutoReply
from whatsapp.clock import Clock
from whatsapp.contacts import Contacts
from whatsapp.conversations import CONVERSATIONS, ConversationKeeper
from whatsapp.erased import Erased
from whatsapp.erasure import Erasures
from whatsapp.graph import Graph
from whatsapp.handover import HandOver
from whatsapp.intake import Intake
from whatsapp.intake_watch import IntakeWatch
from whatsapp.lane_builder import LaneBuilder, LaneLimits
from whatsapp.lanes import Lanes
from whatsapp.media import Media
from whatsapp.media_folder import MediaFolder
from whatsapp.media_keeper import MediaKeeper
from whatsapp.number_level import Rates
from whatsapp.opt_out import OptOutWords
from whatsapp.outbox import Outbox
from whatsapp.read_marks import ReadMarks
from whatsapp.resuming import Resuming
from whatsapp.retention import Retention, RetentionLimits
from whatsapp.retry import RetryPolicy
from whatsapp.sandbox import Sandbox, SandboxSettings
from whatsapp.suppressions import SUPPRESSIONS, Suppressions
from whatsapp.template_list import Templates
from whatsapp.tracker import Tracker
from whatsapp.unheard_sweep import UnheardSweep
from whatsapp.unknown import TRACKER
from whatsapp.windows import WINDOWS, Windows

__all__ = ["PROGRAM", "Gateway", "make_graph", "make_store"]

__version__ = "0.1.0"

_log = logging.getLogger("gateway")

_STORE_RETRY_S = 1.0
_GATHER_S = 0.1
"""For conversations, which people look at, and opt-outs: a moment later will do."""
_LINGER_S = 0.05
"""For what was answered to the last moment to leave before its connection is closed."""


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class Gateway:
    """The whole program, from open store to listening port. Tests build the same object with port 0."""

    def __init__(self, settings: config.Settings, *, store: Store | None = None) -> None:
        """``store``: in place of the one that the settings name."""
        self._settings = settings
        self._tokens = reloading.tokens_of(settings)
        self._store = store or make_store(settings)
        self._errors: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed: asyncio.Future[None] | None = None
        self._owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._sandbox: Sandbox | None = None
        self._keeper: MediaKeeper | None = None
        self._autoreply: AutoReply | None = None
        self._parts = AsyncExitStack()
        self.port = 0

    async def start(self) -> None:
        """Build and start everything. The port is taken first, so that one in use is told at once, and is
        served last: who connects before that is answered when all is ready, or cut off when the start fails.

        Raises GatewayError or OSError where a part cannot start; the others are closed.
        """
        self._failed = asyncio.get_running_loop().create_future()
        try:
            await self._start_parts()
        except BaseException:
            await self._cancel_tasks()
            await self._parts.aclose()
            raise

    async def _start_parts(self) -> None:
        settings = self._settings
        sockets = self._bind()
        self._parts.push_async_callback(self._store.close)
        await self._open_store()
        self._log = Log(self._store)
        await self._log.start()
        self._hub = Hub(
            self._log,
            buffer_bytes=settings.hub.buffer_bytes,
            max_subscribers=_most_connections(settings.hub.max_subscribers),
            now_ms=_now_ms,
        )
        self._names = Names(
            self._store,
            self._hub,
            self._log,
            owner=self._owner,
            most=settings.hub.max_names,
            now_ms=_now_ms,
        )
        self._parts.push_async_callback(self._names.close)
        self._monitor = StoreMonitor(self._store, now_ms=_now_ms, monotonic=time.monotonic)
        self._erased = Erased(self._store, now_ms=_now_ms)
        await self._erased.load()
        self._log.subscribe(self._erased.notice)
        self._contacts = Contacts(self._store, now_ms=_now_ms, returning=self._erased.returning)
        self._parts.push_async_callback(self._contacts.flush)
        self._log.subscribe(self._contacts.notice)
        self._intake = Intake(self._log, self._contacts, self._store, now_ms=_now_ms, erased=self._erased)
        self._watch = IntakeWatch(self._store, now_ms=_now_ms)
        self._log.subscribe(self._watch.notice)
        self._accounts = AccountWatch(self._store, now_ms=_now_ms)
        self._log.subscribe(self._accounts.notice)
        self._windows = self._make_windows()
        self._log.subscribe(self._windows.notice)
        self._idempotency = Idempotency(self._store, holder=self._owner, now_ms=_now_ms)
        self._parts.push_async_callback(self._idempotency.close)
        self._outbox = Outbox(self._store, self._log, self._contacts, now_ms=_now_ms)
        if settings.sandbox_mode:
            self._sandbox = await self._start_sandbox()
            settings = self._settings = _on(self._sandbox, settings)
        words = OptOutWords(settings.opt_out.words, settings.opt_out.return_words)
        self._suppressions = Suppressions(self._store, self._contacts, words, now_ms=_now_ms)
        self._log.subscribe(self._suppressions.notice)
        graph = self._graph = make_graph(settings)
        self._parts.push_async_callback(graph.close)
        await graph.open()
        folder = MediaFolder(Path(settings.media.dir)) if settings.media.days else None
        self._uploads = UploadDesk(list(self._rates))
        self._media = Media(graph, self._store, folder=folder, now_ms=_now_ms)
        self._templates = self._make_templates(graph)
        self._log.subscribe(self._templates.notice)
        self._read_marks = ReadMarks(graph, self._store, now_ms=_now_ms)
        self._lanes = Lanes(
            list(self._rates),
            self._lane_builder(graph).build,
            store=self._store,
            owner=self._owner,
            lease_ttl_s=settings.lease.ttl_s,
            monotonic=time.monotonic,
        )
        self._templates.tell(self._lanes.listed)
        self._consumers = [
            self._consumer(TRACKER, self._make_tracker()),
            self._consumer(WINDOWS, self._windows, self._windows.lost),
            self._consumer(SUPPRESSIONS, self._suppressions, gather_s=_GATHER_S),
            self._consumer(CONVERSATIONS, ConversationKeeper(self._store), gather_s=_GATHER_S),
        ]
        self._handovers: list[HandOver] = []
        if settings.autoreply.enabled:
            self._handovers = automations.make_handovers(settings.autoreply, self._around, self._outbox)
            for handover in self._handovers:
                await handover.begin()
            self._autoreply = self._make_autoreply()
            self._consumers.append(self._consumer("autoreply", self._autoreply))
        if folder is not None:
            self._keeper = MediaKeeper(
                self._media, folder, store=self._store, days=settings.media.days, now_ms=_now_ms
            )
            await self._keeper.prepare()
            self._consumers.append(self._consumer("media", self._keeper))
            self._start_task("media-keeper", self._keeper.run())
        self._followers: list[Consumer | HandOver] = [*self._consumers, *self._handovers]
        self._outlets = receivers.make_outlets(settings, self._around)
        if self._outlets.by_name:
            self._log.subscribe(self._outlets.notice)
        await self._outlets.begin()
        for outlet in self._outlets.by_name.values():
            self._start_task(f"outlet-{outlet.name}", outlet.run())
        self._erasures = self._make_erasures()
        self._log.subscribe(self._erasures.notice)
        await self._erasures.begin()
        self._start_task("erasures", self._erasures.run())
        self._retention = self._make_retention()
        self._start_task("retention", self._retention.run())
        self._start_task("monitor", self._monitor.run())
        self._start_task("intake-watch", self._watch.run())
        self._start_task("account-watch", self._accounts.run())
        self._start_task("windows-sweep", self._windows.sweep())
        self._start_task("unheard-sweep", self._make_unheard_sweep().run())
        self._start_task("positions", self._hub.run())
        self._start_task("names", self._names.run())
        for follower in self._followers:
            self._start_task(follower.name, follower.run())
        self._lanes_task = self._start_task("lanes", self._lanes.run())
        self._accept(sockets)

    async def _open_store(self) -> None:
        """After a reboot a database may come up later than the gateway; a file is there, or will not be."""
        in_a_file = config.sqlite_path(self._settings.store_url) is not None
        give_up_at = time.monotonic() + (0.0 if in_a_file else self._settings.store.wait_s)
        while True:
            try:
                return await self._store.open()
            except StoreUnavailable as error:
                if time.monotonic() >= give_up_at:
                    raise
                _log.warning("waiting for the store: %s", error.message)
                await asyncio.sleep(_STORE_RETRY_S)

    async def wait(self) -> None:
        """Return never; raise what a background task died of."""
        assert self._failed is not None
        await self._failed

    def follow(self, reloader: reloading.Reloader) -> None:
        """Have the settings read again when that is due, as long as the gateway runs."""
        self._start_task("reloader", reloader.run())

    def renew(self, settings: config.Settings) -> str:
        """Take over the access tokens and the secrets of hooks from settings that were read again, and have
        parked numbers probed; what was done."""
        hooks = [
            *receivers.renew_secrets(self._outlets, settings),
            *automations.renew_secrets(self._handovers, settings),
        ]
        before = self._tokens
        self._tokens = reloading.tokens_after(before, settings)
        if self._sandbox is None:
            self._graph.set_tokens(*self._tokens)
        self._lanes.probe()
        number_of = self._tokens.of_number
        renewed = [number for number, token in before.of_number.items() if token != number_of[number]]
        tokens = f"new access tokens for {', '.join(renewed)}" if renewed else "no access token has changed"
        return f"{tokens}; new secrets for the hooks {', '.join(hooks)}" if hooks else tokens

    async def stop(self) -> None:
        """Drain, then close everything in the reverse order. What was accepted and not sent stays queued."""
        _log.info("stopping")
        self._outbox.drain()
        self._idempotency.drain()
        self._receiver.drain()
        self._lanes.drain()
        _, late = await asyncio.wait({self._lanes_task}, timeout=self._settings.drain.timeout_s)
        if late:
            _log.warning("calls to Meta are still under way: the next start will settle their outcome")
        self._outbox.close()
        self._hub.close_all()
        await self._cancel_tasks()
        await self._tell_queued()
        await self._parts.aclose()

    async def _tell_queued(self) -> None:
        try:
            depths = [await self._store.depth(number) for number in self._rates]
        except StoreUnavailable:
            return
        if queued := sum(depth[State.QUEUED] for depth in depths):
            _log.info("%d messages stay queued, the next start sends them", queued)

    # -- parts -----------------------------------------------------------------------------------------

    @property
    def _rates(self) -> dict[str, Rates]:
        """The numbers that send, the default first, each with its messages a second."""
        lane = self._settings.lane
        rates = Rates(lane.rate, lane.raised_rate)
        return {n.phone_number_id: Rates(n.rate, n.rate) if n.rate else rates for n in self._settings.numbers}

    async def _start_sandbox(self) -> Sandbox:
        settings = self._settings.sandbox
        sandbox = Sandbox(
            SandboxSettings(
                rate_per_number=max(1, round(settings.rate)),
                status_delays=(0.05, 0.15, 0.4) if settings.status_webhooks else None,
            )
        )
        self._parts.push_async_callback(sandbox.stop)
        await sandbox.start()
        self._start_task("sandbox", sandbox.wait())
        return sandbox

    def _make_templates(self, graph: Graph) -> Templates:
        """The sandbox has an account of its own to be shown, and takes any template unless one is named."""
        named = self._settings.whatsapp.waba_id
        waba_id = self._sandbox.settings.waba_id if self._sandbox else named
        return Templates(graph, waba_id, checks=bool(named), monotonic=time.monotonic, now_ms=_now_ms)

    def _lane_builder(self, graph: Graph) -> LaneBuilder:
        lane, unknown = self._settings.lane, self._settings.unknown
        return LaneBuilder(
            LaneLimits(
                rates=self._rates,
                pair_burst=lane.pair_burst,
                pair_interval_s=lane.pair_interval_s,
                concurrency=lane.concurrency,
                read_ahead=lane.read_ahead,
                probe_s=lane.probe_s,
                grace_s=unknown.grace_s,
                resend=unknown.action == "resend",
                ordered_s=self._settings.ordered.timeout_s,
                template_hold_s=lane.template_hold_s,
            ),
            self._retry_policy,
            store=self._store,
            log=self._log,
            monitor=self._monitor,
            graph=graph,
            contacts=self._contacts,
            windows=self._windows,
            suppressions=self._suppressions,
            clock=Clock(_now_ms, time.monotonic),
            random=random.random,
        )

    @property
    def _retry_policy(self) -> RetryPolicy:
        retry = self._settings.retry
        return RetryPolicy(retry.max_attempts, retry.base_s, retry.cap_s, retry.max_spared)

    def _make_tracker(self) -> Tracker:
        return Tracker(self._store, policy=self._retry_policy, random=random.random, now_ms=_now_ms)

    def _make_windows(self) -> Windows:
        return Windows(
            self._store,
            self._contacts,
            self._watch,
            head=self._log.head,
            keep_days=self._settings.retention.days,
            now_ms=_now_ms,
        )

    def _make_retention(self) -> Retention:
        settings = self._settings.retention
        outlets = [outlet.cursor_name for outlet in self._outlets.by_name.values()]
        return Retention(
            RetentionLimits(settings.days, settings.events_days),
            [*(follower.name for follower in self._followers), *outlets],
            store=self._store,
            owner=self._owner,
            now_ms=_now_ms,
        )

    def _make_erasures(self) -> Erasures:
        return Erasures(
            self._store,
            self._log,
            self._contacts,
            self._erased,
            numbers=list(self._rates),
            consumers=[consumer.name for consumer in self._consumers],
            forget=[
                self._log.forget,
                self._contacts.forget,
                self._windows.forget,
                self._suppressions.forget,
                self._outlets.forget,
                *([self._autoreply.forget] if self._autoreply else []),
            ],
            remove_file=self._keeper.remove if self._keeper else None,
            owner=self._owner,
            now_ms=_now_ms,
        )

    def _make_unheard_sweep(self) -> UnheardSweep:
        return UnheardSweep(
            self._store,
            self._templates.known,
            self._watch,
            numbers=list(self._rates),
            owner=self._owner,
            now_ms=_now_ms,
        )

    def _make_autoreply(self) -> AutoReply:
        settings = self._settings.autoreply
        return AutoReply(
            automations.automations_of(settings),
            store=self._store,
            outbox=self._outbox,
            numbers=self._lanes.numbers,
            max_age_s=settings.max_age_s,
            max_per_minute=settings.max_per_minute,
            now_ms=_now_ms,
        )

    @property
    def _around(self) -> receivers.Surroundings:
        return receivers.Surroundings(
            store=self._store,
            log=self._log,
            owner=self._owner,
            lease_ttl_ms=int(self._settings.lease.ttl_s * 1000),
            clock=Clock(_now_ms, time.monotonic),
            random=random.random,
        )

    def _consumer(
        self,
        name: str,
        handler: Tracker | Windows | Suppressions | AutoReply | MediaKeeper | ConversationKeeper,
        on_skip: OnSkip | None = None,
        gather_s: float = 0.0,
    ) -> Consumer:
        return Consumer(
            name,
            handler.handle,
            store=self._store,
            log=self._log,
            owner=self._owner,
            lease_ttl_ms=int(self._settings.lease.ttl_s * 1000),
            on_skip=on_skip,
            gather_s=gather_s,
        )

    # -- the edge --------------------------------------------------------------------------------------

    def _bind(self) -> list[socket.socket]:
        """Take the port; what comes in is not looked at before :meth:`_accept`."""
        host, port = self._settings.server.host, self._settings.server.port
        try:
            sockets = bind_sockets(port, host)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                why = "is in use, perhaps by another gateway: stop it, or set another PORT"
            else:
                why = f"cannot be listened on: {error.strerror or error}"
            key = "PORT" if error.errno in (errno.EADDRINUSE, errno.EACCES) else "HOST"
            raise GatewayError(f"{key}: {host}:{port} {why}") from error
        for taken in sockets:
            self._parts.callback(taken.close)
        self.port = sockets[0].getsockname()[1]
        return sockets

    def _accept(self, sockets: list[socket.socket]) -> None:
        settings = self._settings
        self._receiver = WebhookReceiver(self._intake, settings.app_secrets, self._errors)
        server = make_server(
            access=Access(str(settings.server.api_key), settings.security.networks),
            errors=self._errors,
            receiver=self._receiver,
            verify_token=str(settings.whatsapp.verify_token),
            outbox=self._outbox,
            numbers=list(self._rates),
            direct_timeout_s=settings.direct.timeout_s,
            max_body_bytes=settings.server.max_body_bytes,
            store=self._store,
            log=self._log,
            hub=self._hub,
            names=self._names,
            contacts=self._contacts,
            erasures=self._erasures,
            suppressions=self._suppressions,
            windows=self._windows,
            media=self._media,
            uploads=self._uploads,
            templates=self._templates,
            read_marks=self._read_marks,
            outlets=self._outlets,
            resuming=Resuming(self._log, self._lanes, now_ms=_now_ms),
            overview=self._overview(),
            sandbox=self._sandbox,
            idempotency=self._idempotency,
            now_ms=_now_ms,
            version=__version__,
        )
        self._parts.push_async_callback(self._close_server, server)
        server.add_sockets(sockets)
        if self._sandbox is not None:
            self._sandbox.webhook_url = f"http://127.0.0.1:{self.port}/webhook"

    def _overview(self) -> Overview:
        return Overview(
            {"version": __version__, "sandbox": self._sandbox is not None},
            store=self._store,
            log=self._log,
            monitor=self._monitor,
            hub=self._hub,
            lanes=self._lanes,
            consumers=self._followers,
            outlets=self._outlets,
            intake=self._intake,
            watch=self._watch,
            accounts=self._accounts,
            retention=self._retention,
            erasures=self._erasures,
            media=self._media_status,
            errors=self._errors,
            monotonic=time.monotonic,
            now_ms=_now_ms,
        )

    def _media_status(self) -> dict[str, Any]:
        return {
            "uploads": self._uploads.under_way,
            "most_buffered": self._uploads.most_buffered,
            "kept": self._keeper.status() if self._keeper else None,
        }

    async def _close_server(self, server: HTTPServer) -> None:
        server.stop()
        await asyncio.sleep(_LINGER_S)
        await server.close_all_connections()

    # -- in the background -----------------------------------------------------------------------------

    def _start_task(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.Task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)
        return task

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        """No background loop dies in silence: the process stops, and the next start goes on."""
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and self._failed is not None and not self._failed.done():
            self._failed.set_exception(error)

    async def _cancel_tasks(self) -> None:
        tasks = set(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=5)


def _most_connections(wanted: int) -> int:
    """For subscribers at once: a part of the files that the process may open stays for all else, since one
    that can open none takes no webhook any more."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return wanted if files == resource.RLIM_INFINITY else min(wanted, files * 3 // 4)


def make_store(settings: config.Settings, *, lock_timeout_s: float | None = None) -> Store:
    """The store that the settings name. ``lock_timeout_s``: how long an embedded one waits for its file."""
    path = config.sqlite_path(settings.store_url)
    if path is not None:
        from store.sqlite import SqliteStore

        wait_s = settings.drain.timeout_s if lock_timeout_s is None else lock_timeout_s
        return SqliteStore(path, lock_timeout_s=wait_s)
    from store.mongo import MongoStore

    return MongoStore(str(settings.store_url))


def make_graph(settings: config.Settings) -> Graph:
    """The Graph API that the settings name."""
    whatsapp, graph, tokens = settings.whatsapp, settings.graph, reloading.tokens_of(settings)
    return Graph(
        whatsapp.base_url,
        whatsapp.version,
        tokens.default,
        tokens=tokens.of_number,
        # One more for each lane, which asks for its number's level beside its calls.
        connections=(settings.lane.concurrency + 1) * len(settings.numbers),
        connect_timeout_s=graph.connect_timeout_s,
        answer_timeout_s=graph.answer_timeout_s,
    )


def _on(sandbox: Sandbox, settings: config.Settings) -> config.Settings:
    """The settings with the sandbox's account, and a folder of its own for its files, whose ids are none of
    Meta's."""
    account = sandbox.settings
    whatsapp = replace(
        settings.whatsapp,
        base_url=sandbox.base_url,
        access_token=Secret(account.access_token),
        phone_number_id=sandbox.number,
        app_secret=Secret(account.app_secret),
        app_secret_previous=Secret(""),
        verify_token=settings.whatsapp.verify_token or Secret("sandbox"),
    )
    media = replace(settings.media, dir=str(Path(settings.media.dir) / "sandbox"))
    return replace(settings, whatsapp=whatsapp, media=media)


PROGRAM = cli.Program(__version__, Gateway, make_store, make_graph)


if __name__ == "__main__":
    sys.exit(cli.main(PROGRAM))
