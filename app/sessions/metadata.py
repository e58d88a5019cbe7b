"""How much metadata a session may have: it is part of every row and of every list."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from app.sessions.errors import MetadataTooLarge

__all__ = ["MetadataLimits"]


@dataclass(frozen=True, slots=True)
class MetadataLimits:
    """The largest number of names, and of bytes as JSON."""

    names: int = 64
    size_bytes: int = 16_384

    def check(self, metadata: Mapping[str, Any]) -> None:
        """Raise MetadataTooLarge if there is more than a session may have."""
        if not metadata:
            return
        size = len(orjson.dumps(metadata)) if len(metadata) <= self.names else 0
        if len(metadata) > self.names or size > self.size_bytes:
            raise MetadataTooLarge(len(metadata), size, self.names, self.size_bytes)
