"""What the sandbox is told when it is made, checked.

Pure. Owns the rule that the sandbox speaks with this machine only, in and out.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

import msgspec

from whatsapp.sandbox_rules import SandboxError

__all__ = ["SandboxSettings", "require_loopback"]


def require_loopback(url: str, name: str) -> str:
    """The URL, if it is http on this machine; else raises SandboxError naming ``name``."""
    parts = urlsplit(url)
    if parts.scheme in ("http", "https") and parts.hostname and _is_loopback(parts.hostname):
        return url
    raise SandboxError(
        f"{name} must be a URL on loopback, such as http://127.0.0.1:5000/webhook, not {url!r}."
    )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class SandboxSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the sandbox plays. Raises SandboxError, naming the setting, for a value that cannot be used."""

    access_token: str = "sandbox-token"
    """Demanded as Bearer by every Graph call."""
    phone_numbers: tuple[tuple[str, str], ...] = (("100000000000001", "15550000001"),)
    """(phone number id, display phone number) of each number."""
    waba_id: str = "200000000000001"
    app_secret: str = "sandbox-secret"
    """Signs the webhooks."""
    webhook_url: str | None = None
    """Where updates go, on loopback only; none are told while it is None."""
    host: str = "127.0.0.1"
    port: int = 0
    """0: any free one."""
    enforce_limits: bool = True
    rate_per_number: int = 80
    """Messages a second, in and out."""
    status_delays: tuple[float, float, float] | None = (0.05, 0.15, 0.4)
    """Seconds from a send to its sent, delivered and read; None: no statuses."""
    record: bool = True
    """Keep what was sent in memory, to be read back."""
    record_limit: int = 200_000
    """The newest so many."""
    webhook_retry_s: float = 600.0
    """How long a webhook is posted again and again before it is given up."""
    seed: int | None = None
    """Of the randomness in faults and retries. Ids are new in every run all the same."""

    def __post_init__(self) -> None:
        if not _is_loopback(self.host):
            raise SandboxError(
                f"host must be a loopback address, not {self.host!r}: the sandbox is no server for others."
            )
        if self.webhook_url is not None:
            require_loopback(self.webhook_url, "webhook_url")
        if not self.phone_numbers or not all(id and display for id, display in self.phone_numbers):
            raise SandboxError(
                "phone_numbers must hold at least one (phone number id, display phone number)."
            )
        if not self.access_token or not self.app_secret:
            raise SandboxError("access_token and app_secret must not be empty.")
        if self.rate_per_number < 1 or self.record_limit < 1:
            raise SandboxError("rate_per_number and record_limit must be at least 1.")
        delays = self.status_delays
        if delays is not None and not 0 <= delays[0] <= delays[1] <= delays[2]:
            raise SandboxError("status_delays must be three growing numbers of seconds.")
