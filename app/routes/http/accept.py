"""`Accept`, read as RFC 9110 (12.5.1) says: the largest weight wins, and a weight of 0 refuses."""

from collections.abc import Iterable, Iterator

__all__ = ["is_accepted", "preferred"]


def preferred(accept: str, media_types: Iterable[str]) -> str | None:
    """Return the one of `media_types` that is named with the largest weight, the first named of equals; None if none is."""
    known = frozenset(media_types)
    named = [(weight, media_type) for media_type, weight in _ranges(accept) if media_type in known and weight > 0]
    return max(named, key=lambda each: each[0])[1] if named else None


def is_accepted(accept: str, media_type: str) -> bool:
    """Return whether `media_type` itself is named, with a weight above 0."""
    return preferred(accept, [media_type]) is not None


def _ranges(accept: str) -> Iterator[tuple[str, float]]:
    for part in accept.split(","):
        media_type, *parameters = part.split(";")
        weight = 1.0
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name.strip().lower() == "q":
                weight = _weight(value.strip())
        yield media_type.strip().lower(), weight


def _weight(text: str) -> float:
    try:
        return min(1.0, max(0.0, float(text)))
    except ValueError:
        return 0.0
