"""Compares the public names and parameters of apache-burr with those here, and writes `docs/burr-parity.md`.

Run `python -m scripts.burr_parity` after a change of the public surface; a test fails when the file is out of date, when
something differs without a reason, and when a reason explains a difference that is not there any more.
"""

import importlib
import inspect
import pathlib
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from types import ModuleType
from typing import Any, TypeVar

from scripts.burr_differences import BEHAVIOUR, DIFFERENCES, ELSEWHERE, NOT_HERE

DOCUMENT = pathlib.Path(__file__).parent.parent / "docs" / "burr-parity.md"

MODULES = {
    "burr.core.action": "app.engine",
    "burr.core.application": "app.engine",
    "burr.core.graph": "app.engine",
    "burr.core.implementations": "app.engine",
    "burr.core.parallelism": "app.engine",
    "burr.core.persistence": "app.engine",
    "burr.core.serde": "app.engine.serde",
    "burr.core.state": "app.engine",
    "burr.core.typing": "app.engine",
    "burr.core.validation": "app.engine.validation",
    "burr.common.types": "app.engine",
    "burr.lifecycle.base": "app.engine",
    "burr.lifecycle.default": "app.engine",
    "burr.lifecycle.internal": "app.engine",
    "burr.visibility.tracing": "app.engine",
    "burr.testing": "app.engine.testing",
    "burr.integrations.pydantic": "app.engine",
    "burr.integrations.serde.pickle": "app.engine",
    "burr.integrations.serde.pandas": "app.engine.serde_pandas",
    "burr.integrations.serde.pydantic": "app.engine",
    "burr.integrations.persisters.b_aiosqlite": "app.engine",
}

HEAD = """# Burr's names, and ours

Every public name of apache-burr {version} and every parameter, beside what is here. This file is written by
`python -m scripts.burr_parity`; a test fails when it is out of date or when something differs without a reason.

*same* means: the same parameters in the same order, with the same ones optional. *also takes* names parameters that Burr does
not have; they are optional. Everything is importable from `app.engine` unless a table says otherwise. How to move an application
is in [moving-from-burr.md](moving-from-burr.md).
"""

_IGNORED = ("TYPE_CHECKING", "Self", "annotations", "logger")
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table. `verdict` is empty when a difference has no reason; `has_reason` says that one was looked up."""

    name: str
    theirs: str
    verdict: str
    has_reason: bool = False


def main() -> None:
    """Write the document."""
    text, unexplained, stale = compare()
    DOCUMENT.write_text(text, encoding="utf-8")
    for name in unexplained:
        sys.stderr.write(f"differs without a reason: {name}\n")
    for name in stale:
        sys.stderr.write(f"a reason without a difference: {name}\n")
    if unexplained or stale:
        raise SystemExit(1)


def compare() -> tuple[str, list[str], list[str]]:
    """Return the document, the names that differ without a reason, and the reasons that nothing needs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        modules = {name: importlib.import_module(name) for name in MODULES}
    parts = [HEAD.format(version=version("apache-burr")), _behaviour()]
    unexplained: list[str] = []
    needed: set[str] = set()
    for name, module in modules.items():
        rows = list(_rows(name, module, importlib.import_module(MODULES[name])))
        parts.append(_table(name, rows))
        unexplained += [f"{name}.{row.name}" for row in rows if not row.verdict]
        needed |= {f"{name}.{row.name}" for row in rows if row.has_reason}
    stale = (DIFFERENCES.keys() | NOT_HERE.keys() | ELSEWHERE.keys()) - needed
    return "".join(parts), unexplained, sorted(stale)


def _behaviour() -> str:
    lines = [f"| {subject} | {theirs} | {ours} |" for subject, theirs, ours in BEHAVIOUR]
    return "\n".join(["\n## What behaves differently", "", "| subject | Burr | here |", "|---|---|---|", *lines, ""])


def _table(name: str, rows: list[Row]) -> str:
    where = [] if MODULES[name] == "app.engine" else [f"Here: `{MODULES[name]}`.", ""]
    lines = [f"| `{row.name}` | {row.theirs} | {row.verdict} |" for row in rows]
    return "\n".join([f"\n## {name}", "", *where, "| name | in Burr | here |", "|---|---|---|", *lines, ""])


def _rows(module_name: str, theirs: ModuleType, home: ModuleType) -> Iterator[Row]:
    for name, value in sorted(vars(theirs).items()):
        if not _is_own(theirs, name, value):
            continue
        key = f"{module_name}.{name}"
        if key in NOT_HERE:
            yield Row(name, _kind(value), f"not here: {NOT_HERE[key]}", has_reason=True)
            continue
        ours = _find(ELSEWHERE.get(key), home, name)
        yield _row(key, name, value, ours, ELSEWHERE.get(key))
        if inspect.isclass(value) and inspect.isclass(ours):
            yield from _members(key, name, value, ours)


def _members(key: str, name: str, theirs: type, ours: type) -> Iterator[Row]:
    for member, value in sorted(vars(theirs).items()):
        if member.startswith("_") and member != "__call__":
            continue
        if not (callable(value) or isinstance(value, property | staticmethod | classmethod) or hasattr(value, "func")):
            continue
        member_key = f"{key}.{member}"
        if member_key in NOT_HERE:
            yield Row(f"{name}.{member}", _kind(value), f"not here: {NOT_HERE[member_key]}", has_reason=True)
        else:
            yield _row(member_key, f"{name}.{member}", getattr(theirs, member), getattr(ours, member, None), None)


def _row(key: str, name: str, theirs: Any, ours: Any, elsewhere: str | None) -> Row:
    shown = _kind(theirs)
    if ours is None:
        return Row(name, shown, "")
    difference = _difference(theirs, ours)
    place = "" if elsewhere is None else f"`{elsewhere}`; "
    if not difference.startswith("takes"):
        return Row(name, shown, place + (difference or "same"), has_reason=elsewhere is not None)
    reason = DIFFERENCES.get(key)
    return Row(name, shown, f"{place}{difference}: {reason}" if reason else "", has_reason=reason is not None)


def _is_own(module: ModuleType, name: str, value: Any) -> bool:
    if name.startswith("_") or name in _IGNORED or inspect.ismodule(value) or isinstance(value, TypeVar):
        return False
    home = getattr(value, "__module__", None)
    if inspect.isclass(value) or inspect.isfunction(value):
        return home == module.__name__
    if name == "BASE_ERROR_MESSAGE":  # imported by many, defined by one
        return module.__name__ == "burr.core.validation"
    return home not in ("typing", "collections.abc") and (name.isupper() or home == module.__name__)


def _find(elsewhere: str | None, home: ModuleType, name: str) -> Any:
    if elsewhere is None:
        return getattr(home, name, None)
    module, _, found = elsewhere.rpartition(".")
    return getattr(importlib.import_module(module), found)


def _kind(value: Any) -> str:
    if isinstance(value, property):
        return "property"
    if hasattr(value, "func") and not callable(value):
        return "property"
    signature = _signature(value)
    if signature is None:
        return "class" if inspect.isclass(value) else "value"
    return ", ".join(_shown(parameter) for parameter in signature) or "no parameters"


def _shown(parameter: inspect.Parameter) -> str:
    stars = "*" if parameter.kind is parameter.VAR_POSITIONAL else "**" if parameter.kind is parameter.VAR_KEYWORD else ""
    return f"{stars}{parameter.name}{'' if parameter.default is parameter.empty else '='}"


def _signature(value: Any) -> list[inspect.Parameter] | None:
    if isinstance(value, property) or not callable(value):
        return None
    try:
        parameters = list(inspect.signature(value).parameters.values())
    except (TypeError, ValueError):
        return None
    return [each for each in parameters if each.name != "self" and (_is_variadic(each) or not each.name.startswith("_"))]


def _difference(theirs: Any, ours: Any) -> str:
    """Return nothing, `also takes …` for additions that no caller of Burr's needs to know, or `takes …` for the rest."""
    left, right = _signature(theirs), _signature(ours)
    if left is None or right is None:
        return ""
    wanted = [parameter for parameter in left if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)]
    given = {parameter.name: parameter for parameter in right}
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in right)
    for parameter in wanted:
        counterpart = given.get(parameter.name)
        if counterpart is None and not takes_any:
            return _takes(right)
        if counterpart is not None and parameter.default is not parameter.empty and counterpart.default is counterpart.empty:
            return _takes(right)
    names = [parameter.name for parameter in wanted if parameter.kind in _POSITIONAL]
    ordered = [parameter.name for parameter in right if parameter.kind in _POSITIONAL]
    if ordered[: len(names)] != names and not takes_any:
        return _takes(right)
    more = [
        parameter for parameter in right if parameter.name not in {each.name for each in left} and not _is_variadic(parameter)
    ]
    if any(parameter.default is parameter.empty for parameter in more):
        return _takes(right)
    return f"also takes {', '.join(f'`{parameter.name}`' for parameter in more)}" if more else ""


def _is_variadic(parameter: inspect.Parameter) -> bool:
    return parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)


def _takes(parameters: list[inspect.Parameter]) -> str:
    return f"takes {', '.join(_shown(parameter) for parameter in parameters) or 'no parameters'}"


if __name__ == "__main__":
    main()
