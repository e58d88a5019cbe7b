"""What a host can be told."""

from dataclasses import dataclass, field

from app.executors.ladder import ExecutorSettings
from app.sessions.claims import ClaimSettings
from app.sessions.housekeeping import Retention
from app.sessions.metadata import MetadataLimits
from app.sessions.webhook_messages import WebhookSettings

__all__ = ["HostSettings"]


@dataclass(frozen=True, slots=True)
class HostSettings:
    """How a host treats its sessions. Times in seconds.

    `session_ttl_s` and `retention` are for machines that say nothing of it; every `housekeeping_s` what has expired is deleted.

    `event_buffer` is the number of events that a session keeps in memory for its followers. `url` is where the other replicas
    reach this one.
    """

    idle_ttl_s: float = 300.0
    max_live_sessions: int = 10_000
    event_buffer: int = 512
    ping_s: float = 15.0
    shutdown_grace_s: float = 10.0
    key_ttl_s: float = 86_400.0
    session_ttl_s: float | None = None
    retention: Retention = field(default_factory=Retention)
    housekeeping_s: float = 2.0
    url: str = ""
    claims: ClaimSettings = field(default_factory=ClaimSettings)
    metadata: MetadataLimits = field(default_factory=MetadataLimits)
    webhooks: WebhookSettings = field(default_factory=WebhookSettings)
    executors: ExecutorSettings = field(default_factory=ExecutorSettings)
