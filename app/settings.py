"""Every setting of the service, in one class, read from `STEPWELL_…` variables; the command's options override them.

No reading of files, no connecting, no defaults that depend on another layer.
"""

import base64
import re
from ipaddress import ip_address
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

__all__ = ["ExecutorName", "HttpParser", "LogFormat", "LogLevel", "ProcessStart", "Settings", "SettingsInvalid", "read_settings"]

LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["console", "json"]
ExecutorName = Literal["thread", "process", "dask", "auto"]
ProcessStart = Literal["forkserver", "spawn"]
HttpParser = Literal["httptools", "h11"]

_SEPARATORS = re.compile(r"[,\s]+")
_URL = re.compile(r"https?://(\[[0-9a-fA-F:.]+\]|[^\s/:?#@\[\]]+)(:[0-9]{1,5})?(/[^\s?#]*)?")
_DASK = re.compile(r"local(:[1-9][0-9]*)?|(?!local:)[^\s/]+:[0-9]{1,5}|[a-z]+://\S+")
_HOST_NAME = re.compile(r"[\w-]+(\.[\w-]+)*\.?")
_SECRET = frozenset({"database_url", "webhook_secret"})  # a wrong value of these is not repeated in a message


class SettingsInvalid(Exception):
    """At least one setting has a value that cannot be. `problems` holds one line for each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class Settings(BaseSettings):
    """What the service can be told. Times are in seconds, sizes in bytes."""

    model_config = SettingsConfigDict(env_prefix="STEPWELL_", env_parse_none_str="None", frozen=True, extra="forbid")

    machines: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Machines to host, each `package.module:name`, `path/to/file.py:name` or `path/to/file.py`; "
        "commas or blanks between them.",
    )
    state_modules: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Modules whose classes states may hold although no machine imports them at the top; with those under them.",
    )
    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen on; 0 lets the system choose one.")
    database_url: str = Field(
        default="sqlite:///stepwell.db",
        repr=False,
        description="`sqlite:///file.db`, `postgresql://user:password@host/name`, or `memory://` to keep nothing.",
    )
    migrate: bool = Field(default=True, description="Bring the database's schema up to date at start.")
    database_pool: int = Field(
        default=8,
        ge=3,
        le=200,
        description="Connections to PostgreSQL, one of them for writing and one for the queue of background runs; "
        "two more are for `/readyz` and the heartbeat.",
    )
    pgbouncer: bool = Field(default=False, description="A PgBouncer in transaction mode stands in front of PostgreSQL.")
    background_runs: int = Field(
        default=100, ge=2, le=10_000, description="Background runs that this replica takes from the queue at the same time."
    )
    replica_url: str | None = Field(
        default=None,
        description="Where the other replicas reach this one; its host and port by default. One process per replica.",
    )
    stuck_after_s: float = Field(
        default=60.0,
        ge=5,
        le=86_400,
        description="PostgreSQL: an event loop that does not turn for so long is logged as stuck; "
        "its replica keeps its sessions.",
    )
    log_level: LogLevel = Field(default="info", description="Least level of the service's own log lines.")
    log_format: LogFormat = Field(default="console", description="`console` for people, `json` for machines.")
    hide_error_messages: bool = Field(
        default=False, description="Never show what an error of an action says, only its type and where it was raised."
    )
    threads: int = Field(default=64, ge=1, le=1000, description="Threads that run sync actions.")
    executor: ExecutorName = Field(
        default="thread",
        description="Where sync actions run that choose nothing: `thread`, `process`, `dask`, or `auto` "
        "(threads until proven CPU-bound).",
    )
    processes: int = Field(default=0, ge=0, le=1000, description="Worker processes for CPU-bound actions; 0 is one per core.")
    process_start: ProcessStart = Field(
        default="forkserver", description="How worker processes begin: `forkserver` (fast) or `spawn` (a fresh interpreter each)."
    )
    process_recycle_after: int = Field(default=1000, ge=1, description="Calls after which a worker process is replaced.")
    dask: str = Field(
        default="", description="Dask scheduler, as `tcp://host:8786`; `local` or `local:4` starts a small cluster of its own."
    )
    loop_lag_budget_ms: float = Field(
        default=100.0, ge=0, le=3_600_000, description="What holds the event loop for longer is named; 0 turns the watchdog off."
    )
    isolate_blocking: bool = Field(
        default=False, description="Move async actions that keep holding the event loop to a loop of their own."
    )
    max_body_bytes: int = Field(default=4_000_000, ge=1_000, description="A larger request body is answered with 413.")
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Host names that requests may be sent to; `*` allows any. By default any, except on the loopback interface, "
        "where only `localhost` and its addresses are allowed.",
    )
    allowed_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Web origins, like `https://app.example.com`, whose pages may send requests that change something.",
    )
    http_parser: HttpParser = Field(default="httptools", description="What reads requests: `httptools` or `h11`.")
    request_timeout_s: float = Field(
        default=20.0,
        gt=0,
        le=3600,
        description="A request must arrive within this; a body may take a second more for every 500 bytes of it.",
    )
    max_connections: int = Field(
        default=0,
        ge=0,
        description="Connections above this number are answered with 503; 0 derives it from the file descriptors.",
    )
    max_metadata_names: int = Field(default=64, ge=0, le=10_000, description="A session's metadata may have so many names.")
    max_metadata_bytes: int = Field(
        default=16_384, ge=2, le=10_000_000, description="A session's metadata may be so large as JSON."
    )
    idle_ttl_s: float = Field(default=300.0, gt=0, description="A session without requests leaves memory after this.")
    max_live_sessions: int = Field(default=10_000, ge=1, description="Idle sessions above this number leave memory at once.")
    session_ttl_s: float | None = Field(
        default=None,
        gt=0,
        le=3_153_600_000,
        description="A session expires, with all of its history, when nothing has happened in it for so long.",
    )
    history_steps: int | None = Field(
        default=None, ge=1, description="Of a long history at least the last so many steps are kept; the others go by and by."
    )
    history_days: float | None = Field(default=None, gt=0, description="Steps that are older go by and by.")
    sse_ping_s: float = Field(default=15.0, gt=0, description="A silent event stream gets a comment this often.")
    idempotency_ttl_s: float = Field(default=86_400.0, ge=1, description="An Idempotency-Key is remembered for so long.")
    webhook_secret: str = Field(
        default="",
        repr=False,
        description="Signs webhooks that come without a secret: `whsec_` and the base64 of 24 to 64 bytes.",
    )
    webhook_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Hosts that webhooks may go to, with those under them; any by default. These may have private addresses.",
    )
    webhook_private: bool | None = Field(
        default=None,
        description="Webhooks may go to private addresses, this machine's among them; "
        "by default if `stepwell serve` listens on this machine alone.",
    )
    webhook_attempts: int = Field(default=10, ge=1, le=100, description="Attempts to deliver a webhook, over about four hours.")
    webhook_timeout_s: float = Field(default=10.0, gt=0, le=300, description="An attempt to deliver a webhook ends after this.")
    shutdown_grace_s: float = Field(
        default=10.0, ge=0, le=86_400, description="Running steps have this long to commit at shutdown."
    )

    @field_validator("machines", "state_modules", "webhook_hosts", "allowed_hosts", "allowed_origins", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(filter(None, _SEPARATORS.split(value))) if isinstance(value, str) else value

    @field_validator("log_level", "log_format", "executor", "process_start", "http_parser", mode="before")
    @classmethod
    def _lower(cls, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value

    @field_validator("replica_url")
    @classmethod
    def _without_slash(cls, value: str | None) -> str | None:
        if value and not _URL.fullmatch(value):
            raise ValueError("must be as in http://replica-1:8000")
        return value and value.rstrip("/")  # paths are put behind it

    @field_validator("dask")
    @classmethod
    def _dask(cls, value: str) -> str:
        if value and not _DASK.fullmatch(value):
            raise ValueError("must be as in tcp://host:8786, local or local:4")
        return value

    @field_validator("webhook_hosts")
    @classmethod
    def _hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(map(_is_host, value)):
            raise ValueError("must be names or addresses of hosts alone")
        return value

    @field_validator("allowed_hosts")
    @classmethod
    def _allowed_hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(host == "*" or _is_host(host) for host in value):
            raise ValueError("must be names or addresses of hosts, without a port, or *")
        return value

    @field_validator("allowed_origins")
    @classmethod
    def _allowed_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(map(_URL.fullmatch, value)) or any(origin.count("/") > 2 for origin in value):
            raise ValueError("must be origins as in https://app.example.com, without a path")
        return value

    @field_validator("webhook_secret")
    @classmethod
    def _standard_secret(cls, value: str) -> str:
        if value and not _is_standard_secret(value):
            raise ValueError("must be whsec_ and the base64 of 24 to 64 bytes")
        return value


def read_settings(**overrides: Any) -> Settings:
    """Return the settings from `overrides` and, where these are silent, from the environment.

    Raises SettingsInvalid, with a line per wrong setting that names its variable.
    """
    try:
        return Settings(**overrides)
    except ValidationError as exc:
        raise SettingsInvalid([_line(error) for error in exc.errors(include_url=False)]) from exc


def _is_host(text: str) -> bool:
    try:
        return bool(_HOST_NAME.fullmatch(text) or ip_address(text))
    except ValueError:
        return False


def _is_standard_secret(secret: str) -> bool:
    prefix, separator, encoded = secret.partition("whsec_")
    try:
        key = base64.b64decode(encoded, validate=True)
    except ValueError:
        return False
    return not prefix and bool(separator) and 24 <= len(key) <= 64


def _line(error: Any) -> str:
    name = str(error["loc"][0]) if error["loc"] else "settings"
    found = "" if name in _SECRET else f", not {error['input']!r}"
    reason = error["msg"].removeprefix("Input ").removeprefix("Value error, ")
    return f"STEPWELL_{name.upper()} {reason}{found}"
