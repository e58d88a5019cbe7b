"""What can go wrong in the engine: one root, one class per thing that a caller would handle differently.

Messages name the thing, what was found and what was expected. They never hold a state value: states hold secrets.
"""

__all__ = [
    "EngineError",
    "OperationError",
]


class EngineError(Exception):
    """Root of every error that the engine raises on its own account."""


class OperationError(EngineError, ValueError):
    """An operation does not fit the value it meets: an append to something that is no list, for example."""
