"""The path of a request, as routes should see it."""

from urllib.parse import unquote

from starlette.types import Scope

__all__ = ["keep_encoded_slashes"]


def keep_encoded_slashes(scope: Scope) -> None:
    """Let `%2F` in the path of a request stay part of its segment: servers decode it into a slash between two segments."""
    raw: bytes = scope.get("raw_path") or b""
    if b"%" not in raw or b"%2f" not in raw.lower():
        return
    segments = raw.decode("ascii", "replace").split("/")
    scope["path"] = "/".join([unquote(segment).replace("/", "%2F") for segment in segments])
