"""What Meta's errors are to do to a message, typed from the fact sheets and not from our table.

One line for each row of CLOUD_API_2026.md 12.2, in its order, then for those that CLOUD_API.md 2 alone has.
Where the sheets differ, the newer stands. Two readings of ours: where a row says that a person must act (A)
for a feature and not for the number, the message fails, since other messages go through; and what is to be
tried a day later or more fails, since what waits behind it would wait as long.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["ROWS", "Case", "ErrorRow", "cases"]

MINUTE = 60.0
HOUR = 3600.0


class ErrorRow(NamedTuple):
    """A row of the sheets."""

    codes: tuple[int, ...]
    what: str
    """``retry``, ``fail`` or ``park``."""
    says: str
    """Words that the operator reads."""
    scope: str = "row"
    http: int = 0
    """0: the sheets name none."""
    burn: bool = True
    doubt: bool = False
    after_s: float = 0.0
    """The least wait before another try."""
    tries: int = 0
    """Attempts at most; 0: as for any other."""


class Case(NamedTuple):
    """One code of a row."""

    code: int
    row: ErrorRow


def _never(*codes: int, says: str, scope: str = "row", http: int = 0) -> ErrorRow:
    return ErrorRow(codes, "fail", says, scope, http)


def _stop(*codes: int, says: str, http: int = 0) -> ErrorRow:
    return ErrorRow(codes, "park", says, "number", http, burn=False)


def _again(
    *codes: int,
    says: str,
    scope: str = "row",
    http: int = 0,
    doubt: bool = False,
    after_s: float = 0.0,
    tries: int = 0,
) -> ErrorRow:
    burns = scope in ("row", "template", "broadcast")
    return ErrorRow(codes, "retry", says, scope, http, burns, doubt, after_s, tries)


_HOLD_S = 5 * MINUTE

ROWS: tuple[ErrorRow, ...] = (
    # -- CLOUD_API_2026.md 12.2 --
    _stop(0, 190, says="access token", http=401),
    _stop(3, says="permission", http=500),
    _stop(10, *range(200, 300), 131005, says="permission", http=403),
    _again(1, says="tried a few times", http=400, doubt=True, tries=3),
    _again(2, says="overloaded", http=503, doubt=True),
    _again(4, says="calls", scope="app", http=400, after_s=_HOLD_S),
    _stop(33, says="phone number id", http=400),
    _never(100, says="correct the message", http=400),
    _stop(368, 131031, says="account", http=403),
    _again(613, says="call rate", scope="app", after_s=_HOLD_S),
    _again(138013, says="less often", after_s=_HOLD_S, tries=3),
    _again(80007, says="management calls", scope="account", http=400, after_s=_HOLD_S),
    _never(130403, says="lift the block"),
    _again(130429, says="faster than Meta allows", scope="lane", http=400),
    _never(130472, says="experiment", http=400),
    _never(130497, says="country", http=403),
    _again(131000, says="may have gone out", http=500, doubt=True, tries=3),
    _never(131008, says="missing", http=400),
    _never(131009, says="value", http=400),
    _again(131016, says="unavailable", http=500, doubt=True),
    _never(131021, says="sending number itself", http=400),
    _never(131026, says="not on WhatsApp", http=400),
    _never(131030, says="test number", http=400),
    _stop(131037, says="display name", http=400),
    _stop(131042, says="payment", http=400),
    _never(131044, says="payment"),
    _stop(131045, says="register", http=500),
    _never(131047, says="only a template", http=400),
    _again(131048, says="broadcasts pause", scope="broadcast", http=400, after_s=4 * HOUR, tries=5),
    _never(131049, says="24 hours", http=400),
    _never(131050, says="stopped marketing", http=400),
    _never(131051, says="type", http=400),
    _never(131052, says="download", http=400),
    _never(131053, says="media", http=400),
    _never(131055, says="marketing", http=400),
    _again(131056, says="this recipient", scope="pair", http=400),
    _again(131057, says="about a minute", scope="number", http=500, after_s=MINUTE),
    _never(131059, says="first page"),
    _never(131062, says="phone number"),
    _never(131063, says="marketing", scope="template"),
    _again(131064, says="wrong category", scope="broadcast", after_s=4 * HOUR, tries=5),
    _never(132000, says="number of parameters", http=400),
    _never(132008, says="parameter"),
    _never(132012, says="parameter", http=400),
    _never(132018, says="template", http=400),
    _never(132001, says="language", scope="template", http=404),
    _never(132005, says="too long", http=400),
    _never(132007, says="policy", scope="template", http=400),
    _never(132015, says="paused", scope="template", http=400),
    _never(132016, says="disabled", scope="template", http=400),
    _never(132068, says="blocked", scope="template", http=400),
    _again(132069, says="10 messages an hour", scope="template", http=400, after_s=HOUR, tries=5),
    _stop(133000, says="deregister", http=500),
    _stop(133005, says="PIN", http=400),
    _stop(133006, says="verified", http=400),
    _stop(133010, says="register it", http=400),
    _again(133008, says="PIN", scope="number", http=400, after_s=HOUR),
    _again(133009, says="PIN", scope="number", http=400, after_s=10 * MINUTE),
    _again(133015, says="five minutes", scope="number", http=400, after_s=5 * MINUTE),
    _again(133004, says="unavailable", http=503, doubt=True),
    _stop(133016, says="72 hours", http=400),
    _never(134011, says="terms", http=400),
    _never(134100, says="category", http=400),
    _again(134101, says="ten minutes", scope="template", http=400, after_s=10 * MINUTE, tries=3),
    _never(134102, says="marketing API", scope="template", http=500),
    _never(135000, says="parameters", http=400),
    _again(136024, says="verification code", after_s=10 * MINUTE, tries=3),
    _never(137000, says="identity key"),
    _never(138000, 138018, says="alling"),
    _again(138001, says="called", after_s=5 * MINUTE, tries=3),
    _again(138004, 138007, says="try later", after_s=5 * MINUTE, tries=3),
    _again(138002, says="1,000 calls"),
    _never(138003, says="call"),
    _again(138005, says="too fast", after_s=MINUTE),
    _never(138006, says="permission"),
    _never(138009, 138012, says="day"),
    _never(131020, 131041, says="group"),
    _never(131201, says="lists"),
    _never(131202, 131204, 131212, 131213, says="group"),
    _never(131207, says="suspended"),
    _again(131208, says="group operations", after_s=5 * MINUTE),
    _never(131209, 131210, says="picture"),
    _again(131211, 131214, says="group", after_s=HOUR, tries=3),
    _never(131215, says="groups"),
    _never(*range(139000, 139005), says="flow"),
    _never(139100, says="lists"),
    _never(139101, says="64,000"),
    _again(139102, 139103, says="tried again"),
    _never(139200, 2388318, 2388330, says="Direct Send"),
    _never(147001, 147002, says="username"),
    _never(147003, says="Facebook"),
    _never(147004, says="Instagram"),
    _never(147005, says="transfer"),
    _never(1752041, says="invit", http=400),
    _stop(2388001, 2388012, 2388091, 2388093, 2388103, says="migration"),
    _never(2388019, says="templates"),
    _never(2388039, 2388040, 2388047, 2388072, 2388073, 2388293, 2388299, says="template"),
    _again(2494100, says="maintenance", scope="number", after_s=5 * MINUTE),
    _never(2494164, says="sign-up"),
    _again(2494165, says="sign-up", after_s=5 * MINUTE, tries=3),
    _never(2494166, 2494167, 2494168, 2494176, 2494177, 2494179, says="sign-up"),
    _never(2593107, 2593108, says="onboard", http=400),
    _never(2593109, says="history", http=400),
    _never(200005, 200006, 200007, says="insights"),
    # -- CLOUD_API.md 2 alone --
    _again(17, 32, 341, says="app", scope="app", after_s=_HOLD_S),
    _stop(102, says="session"),
    _stop(104, says="token"),
    _never(506, says="change the content"),
    _never(131060, says="inbound"),
    _never(131203, 131205, 131206, says="group"),
    _never(138008, 138010, 138011, 138014, 138015, 138016, 138017, says="call"),
)


def cases() -> Iterator[Case]:
    """Every code, with its row."""
    for row in ROWS:
        for code in row.codes:
            yield Case(code, row)
