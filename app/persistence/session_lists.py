"""How a page of sessions is read with bounded work, whatever it is filtered by and however many sessions there are.

What a filter asks for are conditions; for each of them there is an index that has the sessions which meet it in the order of
the list. One is walked, and what the walk comes to is looked up for the others. Where few sessions meet them all, that could go
on for long: after WALKED entries a page ends as it is, perhaps empty, and its cursor leads on.

Planners are left little choice here, as what they believe of the data may be wrong. A walk is ordered by both columns of its
index, for which no other one will do. Whether its value is frequent is hidden from them, or they would rather sort what they take
for a few rows. What is looked up is a scalar subquery, which is never made a join.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, ScalarSelect, Select, and_, bindparam, literal_column, or_, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from app.persistence.records import SessionFilter, SessionStatus
from app.persistence.statements import HAS_RUN, IS_THERE, is_running, some
from app.persistence.tables import labels, runs, sessions
from app.persistence.wave_rows import label_of

__all__ = ["REACH", "WALKED", "conditions_of", "reaches", "sessions_page"]

WALKED = 5_000  # entries of an index, for one page
REACH = 1_000  # entries of each condition that are looked at to find the sparsest
_LABEL, _RUNNING, _ANY = "label", "running", "any"
_SHAPES = 256

# what is walked has another name than what is looked up meanwhile
_sessions, _labels, _runs = sessions.alias("walked"), labels.alias("walked"), runs.alias("walked")
_before = bindparam("before", type_=BigInteger)


def conditions_of(which: SessionFilter) -> Mapping[str, Any]:
    """Return what a filter asks for, at least one condition: the parameters of the statements, by the conditions' names."""
    return dict(_conditions(which)) or {_ANY: None}


def _conditions(which: SessionFilter) -> Iterator[tuple[str, Any]]:
    for place, (name, value) in enumerate(which.metadata.items()):
        yield f"{_LABEL}{place}", label_of(name, value)
    if which.partition_key is not None:
        yield "partition_key", which.partition_key
    if which.machine is not None:
        yield "machine", which.machine
    if which.status is SessionStatus.RUNNING:
        yield _RUNNING, None
    elif which.status is not None:
        yield "status", which.status.value


@lru_cache(_SHAPES)
def reaches(conditions: Sequence[str]) -> Select[Any]:
    """Return the statement for the key of the REACHth session before `before` that meets each condition, null if there are fewer.

    Of all conditions, the one that gets furthest down in so many entries is met by the fewest.
    """
    return select(*(_nth(_walk(condition), REACH) for condition in conditions))


@lru_cache(_SHAPES)
def sessions_page(conditions: Sequence[str]) -> Select[Any]:
    """Return the statement for `limit` sessions before `before` that meet all conditions, newest first; there `is_met` is true.

    The first condition is walked. The first row of which `is_met` is not true is where the walk was broken off; what comes after
    it means nothing.
    """
    walk = _walk(conditions[0])
    (key,) = walk.selected_columns
    is_met = and_(*(_is_met(condition, key) for condition in conditions[1:]), some(sessions.c.key == key, IS_THERE))
    # written like this, where the walk is to end is only looked up when something has not met the conditions
    goes_on = or_(is_met, key < _nth(walk, WALKED))
    found = walk.add_columns(is_met.label("is_met")).where(goes_on).limit(bindparam("limit")).subquery("found")
    rows = select(sessions, HAS_RUN, found.c.is_met).join_from(found, sessions, sessions.c.key == found.c[key.name])
    return rows.order_by(sessions.c.key.desc())


def _walk(condition: str) -> Select[Any]:
    """Return the select of the keys of the sessions that meet a condition, newest first."""
    if condition.startswith(_LABEL):
        return _walk_index(_labels.c.label, _labels.c.session_key, condition)
    if condition not in (_ANY, _RUNNING):
        return _walk_index(_sessions.c[condition], _sessions.c.key, condition)
    key = _sessions.c.key if condition == _ANY else _runs.c.session_key
    walk = select(key) if condition == _ANY else select(key).where(is_running(_runs)).group_by(key)
    return walk.where(key < _before).order_by(key.desc())


def _walk_index(column: ColumnElement[Any], key: ColumnElement[int], condition: str) -> Select[Any]:
    value = select(bindparam(condition, type_=column.type)).scalar_subquery()  # a planner does not look into it
    return select(key).where(column >= value, _Before(column, key, value, _before)).order_by(column.desc(), key.desc())


def _is_met(condition: str, key: ColumnElement[int]) -> ColumnElement[bool]:
    if condition.startswith(_LABEL):
        return some(labels.c.session_key == key, labels.c.label == bindparam(condition))
    if condition == _RUNNING:
        return some(sessions.c.key == key, HAS_RUN.element)
    return some(sessions.c.key == key, sessions.c[condition] == bindparam(condition))


def _nth(walk: Select[Any], place: int) -> ScalarSelect[Any]:
    # as literals: what is planned for any number is planned for a tenth of all rows
    return walk.limit(literal_column("1")).offset(literal_column(str(place - 1))).scalar_subquery().correlate(None)


class _Before(FunctionElement[Any]):
    """`(column, key) < (value, before)`, given `column >= value`: SQLite finds no such range if `key` is its rowid."""

    inherit_cache = True


@compiles(_Before)
def _as_rows(element: _Before, compiler: SQLCompiler, **kw: Any) -> str:
    column, key, value, before = (compiler.process(clause, **kw) for clause in element.clauses)
    return f"({column}, {key}) < ({value}, {before})"


@compiles(_Before, "sqlite")
def _as_equality(element: _Before, compiler: SQLCompiler, **kw: Any) -> str:
    column, key, value, before = (compiler.process(clause, **kw) for clause in element.clauses)
    return f"{column} = {value} AND {key} < {before}"
