"""Ids of sessions and runs."""

import re

import uuid_utils

from app.sessions.errors import IdInvalid

__all__ = ["check_id", "new_id"]

_ID = re.compile(r"[A-Za-z0-9._~:@-]{1,128}")


def new_id() -> str:
    """Return a UUIDv7: ids made later sort later."""
    return str(uuid_utils.uuid7())


def check_id(value: str, what: str) -> str:
    """Return `value`. Raises IdInvalid, which names `what`, for anything that would not stand in a URL as it is."""
    if not _ID.fullmatch(value) or not value.strip("."):
        raise IdInvalid(what)
    return value
