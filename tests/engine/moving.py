"""What `docs/moving-from-burr.md` does to the imports of an application for Burr."""

import re

__all__ = ["SED", "moved"]

_REPLACEMENTS = (
    (r"^( *)from burr(\.\w+)* import", r"\1from app.engine import"),
    (r"^( *)import burr(\.\w+)*$", r"\1from app.engine import burr"),
)

SED = "; ".join(f"s/{pattern}/{replacement}/" for pattern, replacement in _REPLACEMENTS)


def moved(text: str) -> str:
    """Return the source of an application with its imports changed."""
    for pattern, replacement in _REPLACEMENTS:
        text = re.sub(pattern, replacement, text, flags=re.MULTILINE)
    return text
