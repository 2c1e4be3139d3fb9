"""What a refusal does beyond its row: slow the number, pause it or its whole app, hold broadcasts back, park
it until Meta lets it send again.

Owns a lane's brakes; a parked number is probed by ``parking.py``. What a refusal calls for is said by the
error table; how fast the number goes is the pacer's.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from typing import Any

import msgspec

from store.records import Priority, Row
from whatsapp.app_limit import AppLimit
from whatsapp.error_policy import Scope
from whatsapp.errors import Outcome, Verdict
from whatsapp.failures import SendError
from whatsapp.graph import Graph
from whatsapp.pacing import LanePacer, PairPacer
from whatsapp.parking import Parking
from whatsapp.queue import PRIORITIES
from whatsapp.template_holds import News, Template, TemplateHolds

__all__ = ["Brakes"]

_log = logging.getLogger(__name__)

_PATIENCE = 20
"""How often a message is refused for the number's rate, while others to whom it was not are taken, before its
attempts count like any other's."""
_MOST_THROTTLED = 10_000
_RECONNECT_S = (0.5, 30.0)


class Brakes:
    """Those of one lane. ``probe_s``: how soon a parked number is probed first; each further wait is twice as
    long."""

    def __init__(
        self,
        phone_number_id: str,
        pacer: LanePacer,
        pairs: PairPacer,
        *,
        graph: Graph,
        templates: TemplateHolds,
        app: AppLimit,
        monotonic: Callable[[], float],
        probe_s: float,
    ) -> None:
        self._phone_number_id = phone_number_id
        self._pacer = pacer
        self._pairs = pairs
        self._graph = graph
        self._templates = templates
        self._app = app
        self._monotonic = monotonic
        self._parking = Parking(phone_number_id, works=self._works, monotonic=monotonic, first_s=probe_s)
        self._refused_rows: set[str] = set()  # sent back by a refusal that parked the lane
        self._probed = False
        self._taken = 0
        # row -> refusals, and how many messages had been taken at the last of them
        self._throttled: dict[str, tuple[int, int]] = {}
        self._unreachable = 0
        self._trouble = ""
        self._paused_why = ""
        self._broadcast_until = 0.0
        self._broadcast_why = ""

    @property
    def lowest(self) -> Priority:
        """The lowest priority that may leave now."""
        return PRIORITIES[0] if self._monotonic() < self._broadcast_until else PRIORITIES[-1]

    def leaves(self, row: Row, now: float) -> None:
        """A message leaves: it counts in the pace of the number, and of the recipient."""
        self._pacer.spend(now)
        self._pairs.spend(row.contact, now)

    def forget_idle(self, now: float) -> None:
        """Drop what is known of recipients that need not be slowed any more; from time to time."""
        self._pairs.forget_idle(now)

    def accepted(self, row: Row) -> None:
        """Meta took a message: whatever was wrong with the number is over."""
        self._taken += 1
        self._pairs.accepted(row.contact)
        self._throttled.pop(row.id, None)
        if self._unreachable:
            _log.warning("lane %s goes on: the Graph API answers", self._phone_number_id)
        self._unreachable = 0
        self._trouble = ""
        self._probed = False
        self._refused_rows.clear()
        if (template := self._templates.accepted(row, self._monotonic())) is not None:
            self._tell_template(template, "goes on: Meta takes it again")

    def answered(self, headers: Mapping[str, str]) -> None:
        """Graph has answered a call of this number with these headers."""
        self._app.heard(self._phone_number_id, headers, self._monotonic())

    def share_app(self, now: float) -> None:
        """Have the pacer do what the numbers of the app, and of its account, must do."""
        self._pacer.share(self._app.share(self._phone_number_id, now))
        self._pacer.pause(self._app.paused_until(self._phone_number_id))

    def unreachable(self, why: str) -> float:
        """The Graph API cannot be reached: pause; for how many seconds."""
        if not self._unreachable:
            _log.warning("lane %s waits: %s", self._phone_number_id, why)
        self._trouble = why
        first_s, most_s = _RECONNECT_S
        delay_s = min(most_s, first_s * 2.0 ** min(self._unreachable, 10))
        # Calls that were under way together fail together, and are one failure.
        if self._monotonic() >= self._pacer.paused_until:
            self._unreachable += 1
            self.pause(delay_s)
        return delay_s

    def pause(self, seconds: float) -> None:
        """Send nothing for so long."""
        self._pacer.pause(self._monotonic() + seconds)

    def react(self, row: Row, verdict: Verdict) -> Verdict:
        """Brake as the verdict says; the verdict as it counts for the row."""
        verdict = self._hold(row.contact, verdict)
        self.stop_template(row, verdict)
        if verdict.outcome is Outcome.RETRY and not verdict.burn:
            return self._bounded(row, verdict)
        if verdict.outcome is not Outcome.PARK:
            return verdict
        if self._probed and row.id in self._refused_rows:
            # The number works, says the probe, and yet this row is refused again: then it is the row.
            return msgspec.structs.replace(verdict, outcome=Outcome.RETRY, burn=True)
        self._refused_rows.add(row.id)
        self.park(verdict.operator)
        return verdict

    def told(self, contact: str, verdict: Verdict) -> None:
        """Brake as the verdict says on a message to this contact that Meta took and failed later."""
        self._hold(contact, verdict)
        if verdict.outcome is Outcome.PARK:
            self.park(verdict.operator)

    def stop_template(self, row: Row, verdict: Verdict) -> None:
        """Hold the row's template, if that is what the verdict is about."""
        if verdict.scope is Scope.TEMPLATE:
            template = self._templates.refused(row, verdict, self._monotonic())
            if template is not None:
                self._tell_template(template, f"waits: {verdict.operator}")

    def heard(self, news: News) -> None:
        """Meta says something of a template."""
        if self._templates.heard(news, self._monotonic()):
            why = f"waits: {news.stops.operator}" if news.stops else "goes on: Meta says so"
            self._tell_template(news.template, why)

    def listed(self, usable: Collection[Template], asked_at: float) -> None:
        """Meta's list, asked for at ``asked_at``, has these templates as approved."""
        for template in self._templates.listed(usable, asked_at, self._monotonic()):
            self._tell_template(template, "goes on: Meta's list has it as approved")

    def resume_template(self, template: Template) -> None:
        """A person says that Meta takes it again."""
        if self._templates.resume(template, self._monotonic()):
            self._tell_template(template, "is tried anew: a person says so")

    def _tell_template(self, template: Template, what: str) -> None:
        name = f"{template.name} ({template.language})"
        _log.warning("lane %s: the template %s %s", self._phone_number_id, name, what)

    def _hold(self, contact: str, verdict: Verdict) -> Verdict:
        """Slow or pause what the verdict is about; the verdict, with the delay that the pair's pace adds."""
        now = self._monotonic()
        if verdict.scope is Scope.LANE:
            self._pacer.throttled(now)
        elif verdict.scope is Scope.PAIR:
            wait_s = self._pairs.refused(contact, now) - now
            return msgspec.structs.replace(verdict, delay_s=max(verdict.delay_s, wait_s))
        elif verdict.scope is Scope.APP:
            self._app.pause(now + verdict.delay_s, verdict.operator)
        elif verdict.scope is Scope.ACCOUNT:
            self._app.pause_account(self._phone_number_id, now + verdict.delay_s, verdict.operator)
        elif verdict.scope is Scope.NUMBER and verdict.outcome is not Outcome.PARK:
            self.pause(verdict.delay_s)
            self._paused_why = verdict.operator
        elif verdict.scope is Scope.BROADCAST:
            self._broadcast_until = max(self._broadcast_until, now + verdict.delay_s)
            self._broadcast_why = verdict.operator
        return verdict

    def _bounded(self, row: Row, verdict: Verdict) -> Verdict:
        """A message that Meta's limits refuse again and again, while they let others pass, is given up in the
        end."""
        refusals, taken = self._throttled.get(row.id, (0, -1))
        if taken != self._taken:
            refusals += 1
        if len(self._throttled) >= _MOST_THROTTLED:
            self._throttled.clear()
        self._throttled[row.id] = (refusals, self._taken)
        return msgspec.structs.replace(verdict, burn=True) if refusals > _PATIENCE else verdict

    async def probe_when_parked(self, resumed: Callable[[], None]) -> None:
        """Ask Meta, while the number is parked, whether it works again; tell ``resumed`` when it does. Until
        cancelled."""

        def goes_on() -> None:
            self._probed = True
            self._pacer.unpark()
            resumed()

        await self._parking.run(goes_on)

    def probe_now(self) -> None:
        """Have a parked number probed at once; end a pause, which the next refusal would begin anew."""
        self._app.resume()
        self._pacer.resume()
        self._parking.probe_now()

    def resume(self) -> None:
        """A person says that the number may go on, and its broadcasts."""
        self._broadcast_until = 0.0
        self.probe_now()

    def status(self) -> dict[str, Any]:
        """For status pages."""
        now = self._monotonic()
        paused = max(self._pacer.paused_until, self._app.paused_until(self._phone_number_id)) > now
        return {
            "state": "parked" if self._parking.why else "paused" if paused else "running",
            "why": self._parking.why or self._trouble or self._why_paused(now) or None,
            "app_used_percent": round(self._app.used(self._phone_number_id, now), 1),
            "broadcasts_paused_s": round(max(0.0, self._broadcast_until - now), 1),
            "broadcasts_why": self._broadcast_why if self._broadcast_until > now else None,
            "templates": self._templates.status(now),
        }

    def _why_paused(self, now: float) -> str:
        return self._app.why(self._phone_number_id, now) or (
            self._paused_why if self._pacer.paused_until > now else ""
        )

    def park(self, why: str) -> None:
        """Nothing can be sent, until a probe says otherwise."""
        if self._parking.park(why):
            self._pacer.park()

    async def _works(self) -> bool:
        try:
            return (await self._graph.number(self._phone_number_id)).status == 200
        except SendError:
            return False
