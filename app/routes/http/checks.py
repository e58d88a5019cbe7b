"""What a request must be before any route sees it, whichever server has received it and whichever way it takes.

One pass over the headers. A request that passes has one Host, a body that is JSON if it says what it is, and, where it may
change something, no foreign web page behind it.
"""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self
from urllib.parse import urlsplit

from starlette.responses import Response
from starlette.types import Scope

from app.routes.problems import problem

__all__ = ["RequestChecks", "is_json"]

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_VERSIONS = frozenset({"1.0", "1.1", "2", "3"})  # the last two by servers that speak them
_CLOSE = {"Connection": "close"}  # where the next request begins is not sure any more
_MOST_FIELDS = 100
_MOST_BYTES = 65_536
_LOOKED_AT = frozenset(
    {
        b"host",
        b"origin",
        b"sec-fetch-site",
        b"content-type",
        b"content-encoding",
        b"transfer-encoding",
        b"content-length",
    }
)
_ONCE = frozenset({b"host", b"origin", b"content-type", b"content-length"})


@dataclass(frozen=True, slots=True)
class RequestChecks:
    """`hosts` are the names that a Host header may have, without a port; None allows any, except on the loopback interface.

    `own_hosts` are names of this service, which are always allowed: other replicas use them. `origins` are the web origins
    (`https://app.example.com`) whose pages may change something, besides the service's own pages.
    """

    hosts: frozenset[str] | None = None
    own_hosts: frozenset[str] = frozenset()
    origins: frozenset[str] = frozenset()

    @classmethod
    def of(cls, hosts: Iterable[str] = (), origins: Iterable[str] = (), own_url: str | None = None) -> Self:
        """Return the checks for settings as a user writes them; `*` among `hosts` allows any, also on the loopback interface."""
        chosen = frozenset(host.lower() for host in hosts)
        own = None if own_url is None else _name_of(urlsplit(own_url).netloc)
        return cls(chosen or None, frozenset() if own is None else frozenset({own}), frozenset(origins))

    def refusal(self, scope: Scope) -> Response | None:
        """Return the problem with a request, None if there is none."""
        if scope["http_version"] not in _VERSIONS:
            detail = f"HTTP/{scope['http_version'][:8]} is not supported; the service speaks HTTP/1.1"
            return problem(505, "http-version-unsupported", "The HTTP version is not supported", detail, None, _CLOSE)
        if scope["method"] == "CONNECT":
            return problem(501, "method-unsupported", "The method is not supported", "CONNECT is not supported", None, _CLOSE)
        if len(scope["query_string"]) + len(scope.get("raw_path") or b"") > _MOST_BYTES:
            detail = f"the path with its query is longer than {_MOST_BYTES} bytes"
            return problem(414, "url-too-long", "The URL is too long", detail, None, _CLOSE)
        headers = scope["headers"]
        if len(headers) > _MOST_FIELDS or sum([len(name) + len(value) for name, value in headers]) > _MOST_BYTES:
            detail = f"a request may have {_MOST_FIELDS} headers of {_MOST_BYTES} bytes in all"
            return problem(431, "headers-too-large", "The headers are too large", detail, None, _CLOSE)
        found: dict[bytes, bytes] = {}
        for name, value in headers:
            if name in _LOOKED_AT:
                if name in found and name in _ONCE and found[name] != value:
                    return _invalid_header(name, "given once")
                if name == b"host" and name in found:
                    return _invalid_header(name, "given once")
                found[name] = value if name not in found else found[name] + b"," + value
        return (
            self._wrong_host(scope, found)
            or _wrong_coding(found)
            or (None if scope["method"] in _SAFE else self._foreign(found) or _wrong_type(found))
        )

    def _wrong_host(self, scope: Scope, found: dict[bytes, bytes]) -> Response | None:
        host = found.get(b"host")
        if host is None:
            return _invalid_header(b"host", "given once") if scope["http_version"] == "1.1" else None
        text = host.decode("latin-1")
        name = _name_of(text)
        if name is None:
            return _invalid_header(b"host", "a host name or address, and perhaps a port")
        if name in self.own_hosts or (self.hosts is not None and (name in self.hosts or "*" in self.hosts)):
            return None
        is_local = _is_loopback(scope.get("server"))
        if _is_local_name(name) if is_local else self.hosts is None:
            return None
        detail = (
            f"the service does not answer for the host {text[:100]!r}; STEPWELL_ALLOWED_HOSTS names those that it answers for"
        )
        return problem(421, "host-unknown", "The service does not answer for this host", detail)

    def _foreign(self, found: dict[bytes, bytes]) -> Response | None:
        origin = found.get(b"origin")
        if origin is not None:
            text = origin.decode("latin-1")
            if text not in self.origins and not _is_own(text, found.get(b"host", b"").decode("latin-1")):
                return _refused_origin(f"a page of {text[:100]!r} may not change anything here")
            return None
        if found.get(b"sec-fetch-site") in (b"cross-site", b"same-site"):
            return _refused_origin("a page of another site may not change anything here")
        return None


def _wrong_coding(found: dict[bytes, bytes]) -> Response | None:
    transfer = found.get(b"transfer-encoding")
    if transfer is not None:
        if transfer.strip().lower() != b"chunked":
            detail = "Transfer-Encoding must be chunked"
            return problem(501, "transfer-coding-unsupported", "The transfer coding is not supported", detail, None, _CLOSE)
        if b"content-length" in found:
            return _invalid_header(b"content-length", "absent when there is a Transfer-Encoding")
    content = found.get(b"content-encoding")
    if content is not None and content.strip().lower() not in (b"", b"identity"):
        detail = "a body must come as it is, without a Content-Encoding"
        title = "The content coding is not supported"
        return problem(415, "content-coding-unsupported", title, detail, None, {"Accept-Encoding": "identity"})
    return None


def _wrong_type(found: dict[bytes, bytes]) -> Response | None:
    media_type = found.get(b"content-type")
    if media_type is None or media_type == b"application/json" or is_json(media_type.decode("latin-1")):
        return None
    detail = f"the Content-Type must be application/json; it is {media_type.decode('latin-1')[:100]!r}"
    return problem(415, "media-type-unsupported", "The body is not of a supported type", detail)


def is_json(content_type: str) -> bool:
    """Return whether a Content-Type is one of JSON."""
    media_type = content_type.partition(";")[0].strip().lower()
    return media_type == "application/json" or (media_type.startswith("application/") and media_type.endswith("+json"))


def _invalid_header(name: bytes, expected: str) -> Response:
    header = name.decode().title()
    return problem(400, "header-invalid", "A header cannot be understood", f"{header} must be {expected}", {"header": header})


def _refused_origin(detail: str) -> Response:
    hint = f"{detail}; STEPWELL_ALLOWED_ORIGINS names the origins that may"
    return problem(403, "origin-refused", "The request comes from a foreign web page", hint)


@lru_cache(maxsize=256)
def _name_of(host: str) -> str | None:
    """Return the name in a Host header in lower case, without its port; None if it cannot be one."""
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port
    except ValueError:
        return None
    if parts.netloc != host or parts.username is not None or not parts.hostname:
        return None
    return f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname.rstrip(".")


@lru_cache(maxsize=256)
def _is_own(origin: str, host: str) -> bool:
    """Whether a page of `origin` was served by the service that is asked as `host`."""
    try:
        parts = urlsplit(origin)
        asked = urlsplit(f"//{host}")
        default = {"http": 80, "https": 443}.get(parts.scheme)
        return (
            default is not None
            and bool(parts.hostname)
            and parts.hostname == asked.hostname
            and (parts.port or default) == (asked.port or default)
        )
    except ValueError:
        return False


@lru_cache(maxsize=64)
def _is_loopback_address(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _is_local_name(name: str) -> bool:
    """Whether a name in a Host header can only mean this machine; no other one can be made to mean it by DNS."""
    return name == "localhost" or name.endswith(".localhost") or _is_loopback_address(name.strip("[]"))


def _is_loopback(server: Any) -> bool:
    """Whether the connection came in on the loopback interface."""
    return bool(server) and server[1] is not None and _is_loopback_address(server[0])
