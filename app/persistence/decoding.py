"""Where stored values are decoded: small ones on the event loop, large ones in a thread of the host."""

from collections.abc import Callable, Iterable
from typing import TypeVar

from app.system.encoding_threads import run_aside

__all__ = ["LARGE_BYTES", "are_large", "decoded_anywhere"]

LARGE_BYTES = 16 * 1024
"""Stored bytes, mostly deflated, that are decoded on the event loop, which takes about a millisecond."""

T = TypeVar("T")


def are_large(blobs: Iterable[bytes]) -> bool:
    """Whether these stored blobs take so long to decode that the event loop must not do it."""
    return sum(map(len, blobs)) > LARGE_BYTES


async def decoded_anywhere(blobs: Iterable[bytes], decode: Callable[[], T]) -> T:
    """Return what `decode` makes of `blobs`, in a thread if they are large."""
    return await run_aside(decode) if are_large(blobs) else decode()
