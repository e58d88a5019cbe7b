"""Burr's dotted names, for code that says `burr.core.State`.

`from app.engine import burr` takes the place of `import burr.core`.
"""

from app import engine as core

lifecycle = visibility = tracking = testing = core

__all__ = ["core", "lifecycle", "testing", "tracking", "visibility"]
