"""What a webhook says, how it is signed, when it is tried again, and where it may go. Performs no I/O.

Messages and signatures are those of the Standard Webhooks specification, 1.0.
"""

import base64
import binascii
import hashlib
import hmac
import json
import random
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any
from urllib.parse import SplitResult, urlsplit

from app.persistence.records import RunRecord
from app.sessions.errors import WebhookInvalid
from app.sessions.events import end_type
from app.sessions.times import rfc3339

__all__ = [
    "WebhookSettings",
    "checked",
    "headers_of",
    "is_allowed_address",
    "is_allowed_host",
    "message_of_run",
    "pause_s",
    "shown_url",
]

_PREFIX = "whsec_"
_KEY_BYTES = range(24, 65)
_LONGEST_TEXT = 256
_LONGEST_HOST = 253
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?", re.IGNORECASE)
_LONGEST_URL = 2_048
_LONGEST_PAUSE_S = 6 * 3600.0
_GROWTH = 2.5
_JITTER = 0.2
_TOLD_OF_AN_ERROR = ("type", "error_type", "action", "seq")  # not its message, which the action has written


@dataclass(frozen=True, slots=True)
class WebhookSettings:
    """Where webhooks may go and how they are sent. Times in seconds.

    Without `hosts` any host will do whose address is public, or any at all with `is_private_allowed`. `secret` signs those for
    which the client gave none. There are `attempts` in all; the second follows about `first_pause_s` after the first.
    """

    secret: str = field(default="", repr=False)
    hosts: tuple[str, ...] = ()
    is_private_allowed: bool = False
    attempts: int = 10
    timeout_s: float = 10.0
    first_pause_s: float = 5.0
    at_once: int = 32
    at_once_per_host: int = 8


def checked(webhook: Mapping[str, Any], settings: WebhookSettings) -> dict[str, Any]:
    """Return a client's webhook as it is stored. Raises WebhookInvalid, which says what is wrong without repeating a secret."""
    url = str(webhook["url"])
    parts = _split(url)
    if parts.scheme not in ("http", "https"):
        raise WebhookInvalid("url", f"must be http or https, not {parts.scheme[:20]!r}")
    if not parts.hostname or len(url) > _LONGEST_URL or not url.isascii() or not url.isprintable() or " " in url:
        raise WebhookInvalid("url", f"must name a host, in at most {_LONGEST_URL} ASCII characters")
    if not _can_be_reached(parts):
        raise WebhookInvalid("url", "must name a host that can be reached, and no port 0")
    if parts.username is not None or parts.password is not None:
        raise WebhookInvalid("url", "must not hold a user or a password: it is shown with the run")
    if not is_allowed_host(parts.hostname, settings):
        raise WebhookInvalid("url", f"leads to {parts.hostname!r}, which is not among the hosts that are allowed here")
    address = _literal(parts.hostname)
    if address is not None and not is_allowed_address(address, parts.hostname, settings):
        raise WebhookInvalid("url", f"leads to {parts.hostname}, which is no public address")
    secret = webhook.get("secret")
    if secret is None:
        return {"url": url}
    _key_of(secret)
    return {"url": url, "secret": secret}


def shown_url(url: str) -> str:
    """Return a webhook's url as everybody may see it: with *** for its query and its fragment, which may hold a token."""
    base = url.partition("#")[0].partition("?")[0]
    return base if base == url else f"{base}?***"


def _can_be_reached(parts: SplitResult) -> bool:
    host = parts.hostname or ""
    address = _literal(host)
    if address is not None:
        return not (address.is_unspecified or address.is_multicast) and parts.port != 0 and str(address) != "255.255.255.255"
    labels = host.removesuffix(".").split(".")
    is_name = all(map(_LABEL.fullmatch, labels)) and len(host) <= _LONGEST_HOST and labels[-1] not in ("invalid", "onion")
    return is_name and not labels[-1].isdigit() and parts.port != 0


def is_allowed_host(host: str, settings: WebhookSettings) -> bool:
    """Whether webhooks may go to this host, or to hosts under it, as far as its name says."""
    return not settings.hosts or _is_listed(host, settings.hosts)


def is_allowed_address(address: str | IPv4Address | IPv6Address, host: str, settings: WebhookSettings) -> bool:
    """Whether webhooks for `host` may be sent to this address. A host that is listed may have any."""
    if settings.is_private_allowed or _is_listed(host, settings.hosts):
        return True
    found = ip_address(address)
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return found.is_global and not found.is_multicast


def message_of_run(run: RunRecord, seq: int) -> bytes:
    """Return the body that tells of the end of a run, after which its session stood at `seq`. The same for each attempt."""
    finished_at = rfc3339(run.finished_at_s or 0.0)
    error = None if run.error is None else {name: run.error[name] for name in _TOLD_OF_AN_ERROR if name in run.error}
    data = {
        "run_id": run.id,
        "session_id": run.session_id,
        "status": run.status.value,
        "reason": run.reason,
        "error": error,
        "steps": run.steps,
        "seq": seq,
        "started_at": rfc3339(run.started_at_s),
        "finished_at": finished_at,
    }
    message = {"type": end_type(run.status).value, "timestamp": finished_at, "data": data}
    return json.dumps(message, separators=(",", ":")).encode()


def headers_of(message_id: str, now_s: float, body: bytes, secret: str) -> dict[str, str]:
    """Return the headers of one attempt; without a secret it is not signed."""
    timestamp = str(int(now_s))
    headers = {
        "content-type": "application/json",
        "user-agent": "stepwell",
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
    }
    if secret:
        signed = f"{message_id}.{timestamp}.".encode() + body
        digest = hmac.new(_key_of(secret), signed, hashlib.sha256).digest()
        headers["webhook-signature"] = f"v1,{base64.b64encode(digest).decode()}"
    return headers


def pause_s(attempts: int, first_s: float) -> float:
    """Return how long to wait after so many attempts have failed: ever longer, up to six hours, and never quite the same."""
    pause = min(first_s * _GROWTH ** (attempts - 1), _LONGEST_PAUSE_S)
    return pause * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311  # to spread attempts, not to hide anything


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port  # a port that is none is found only when it is asked for
    except ValueError:
        raise WebhookInvalid("url", "is not a URL") from None
    return parts


def _literal(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _is_listed(host: str, hosts: Collection[str]) -> bool:
    return any(host == each or host.endswith(f".{each}") for each in hosts)


def _key_of(secret: str) -> bytes:
    """Return the key: what follows the prefix of the specification in base64, or the bytes of a text that has none."""
    if not secret.startswith(_PREFIX):
        if not 1 <= len(secret) <= _LONGEST_TEXT:
            raise WebhookInvalid("secret", f"must have 1 to {_LONGEST_TEXT} characters")
        return secret.encode()
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) not in _KEY_BYTES:
        expected = f"the base64 of {_KEY_BYTES.start} to {_KEY_BYTES.stop - 1} bytes"
        raise WebhookInvalid("secret", f"begins with {_PREFIX}, so that the rest must be {expected}")
    return key
