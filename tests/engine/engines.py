"""Both engines as bags of the same names, so that one scenario can be played on each and compared."""

import contextlib
import importlib
import logging
import warnings
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

__all__ = ["BURR", "OURS", "play"]

_BURR_MODULES = (
    "burr.common.types",
    "burr.core.serde",
    "burr.core.typing",
    "burr.core.state",
    "burr.core.action",
    "burr.core.graph",
    "burr.core.persistence",
    "burr.core.application",
    "burr.core.parallelism",
    "burr.core.implementations",
    "burr.lifecycle.base",
    "burr.lifecycle.default",
    "burr.lifecycle.internal",
    "burr.visibility.tracing",
    "burr.integrations.pydantic",
    "burr.integrations.serde.pickle",
    "burr.testing",
)


def _names_of(modules: tuple[str, ...]) -> SimpleNamespace:
    found: dict[str, Any] = {}
    for name in modules:
        found.update({key: value for key, value in vars(importlib.import_module(name)).items() if not key.startswith("__")})
    return SimpleNamespace(**found)


with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    BURR = _names_of(_BURR_MODULES)
OURS = _names_of(("app.engine",))
BURR.label, OURS.label = "burr", "ours"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Burr logs every error with the whole state, and warns of what it does itself."""
    logger = logging.getLogger("burr")
    was_disabled, logger.disabled = logger.disabled, True
    loggers = [logging.getLogger(name) for name in _BURR_MODULES]
    before = [each.disabled for each in loggers]
    for each in loggers:
        each.disabled = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = was_disabled
        for each, disabled in zip(loggers, before, strict=True):
            each.disabled = disabled


def play(scenario: Callable[[Any], Any]) -> tuple[Any, Any]:
    """Return what `scenario` gives on our engine and on Burr."""
    with _quiet():
        theirs = scenario(BURR)
        return scenario(OURS), theirs
