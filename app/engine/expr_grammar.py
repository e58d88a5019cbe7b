"""What expressions may use: the operators, functions and methods, and bounds that keep them from eating memory.

`safe_expr` interprets expressions with these; nothing here knows how.
"""

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from app.engine.errors import UnsafeExpression
from app.engine.expr_budget import MAX_SIZE

__all__ = ["COMPARISONS", "FULL", "METHODS", "PRIVATE", "STRICT", "UNARY", "Grammar"]

MAX_BITS = 100_000
"""The largest number of bits that an expression may make by `*`, `**` and `<<`."""


def _range(*bounds: int) -> range:
    numbers = range(*bounds)
    if len(numbers) > MAX_SIZE:
        raise UnsafeExpression(f"an expression may not count more than {MAX_SIZE} numbers")
    return numbers


_STRICT_FUNCTIONS: dict[str, Callable[..., Any]] = {
    each.__name__: each for each in (len, abs, min, max, sum, all, any, str, int, float, bool)
}
_FULL_FUNCTIONS: dict[str, Callable[..., Any]] = {
    **_STRICT_FUNCTIONS,
    **{
        each.__name__: each
        for each in (set, frozenset, list, tuple, dict, sorted, reversed, enumerate, zip, round, divmod, ord, chr, isinstance)
    },
    "range": _range,
}

# methods that change nothing and call nothing of the user's; str.format is out: it reaches attributes
_TEXT = {
    *("capitalize", "casefold", "count", "endswith", "find", "index", "isalnum", "isalpha", "isascii", "isdecimal", "isdigit"),
    *("isidentifier", "islower", "isnumeric", "isprintable", "isspace", "istitle", "isupper", "join", "lower", "lstrip"),
    *("partition", "removeprefix", "removesuffix", "replace", "rfind", "rindex", "rpartition", "rsplit", "rstrip", "split"),
    *("splitlines", "startswith", "strip", "swapcase", "title", "upper"),
}
_SETS = {"difference", "intersection", "isdisjoint", "issubset", "issuperset", "symmetric_difference", "union"}
METHODS: dict[type, set[str]] = {
    str: _TEXT,
    bytes: _TEXT - {"casefold", "isdecimal", "isidentifier", "isnumeric", "isprintable"} | {"hex"},
    list: {"count", "index", "copy"},
    tuple: {"count", "index"},
    dict: {"get", "items", "keys", "values", "copy"},
    set: _SETS | {"copy"},
    frozenset: _SETS,
    int: {"bit_length", "bit_count"},
    float: {"is_integer"},
}

# ways from a generator, a coroutine, a frame or a traceback to its frame and its globals
PRIVATE = ("_", "gi_", "cr_", "ag_", "f_", "tb_", "co_", "func_")

COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
}
UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.Not: operator.not_,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Invert: operator.invert,
}


def _times(left: Any, right: Any) -> Any:
    for one, other in ((left, right), (right, left)):
        if isinstance(one, int) and isinstance(other, str | bytes | list | tuple) and one * len(other) > MAX_SIZE:
            raise UnsafeExpression(f"an expression may not make a sequence of more than {MAX_SIZE} items")
    _bound_bits(left, right, lambda a, b: a.bit_length() + b.bit_length())
    return left * right


def _power(left: Any, right: Any) -> Any:
    _bound_bits(left, right, lambda a, b: a.bit_length() * abs(b))
    return left**right


def _shift(left: Any, right: Any) -> Any:
    _bound_bits(left, right, lambda a, b: a.bit_length() + abs(b))
    return left << right


def _modulo(left: Any, right: Any) -> Any:
    if isinstance(left, str | bytes):
        raise UnsafeExpression("an expression may not format text with '%'")
    return left % right


def _bound_bits(left: Any, right: Any, bits: Callable[[int, int], int]) -> None:
    if isinstance(left, int) and isinstance(right, int) and bits(left, right) > MAX_BITS:
        raise UnsafeExpression(f"an expression may not make a number of more than {MAX_BITS} bits")


_STRICT_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: _times,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: _modulo,
    ast.Pow: _power,
}
_FULL_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    **_STRICT_BINARY,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
    ast.LShift: _shift,
    ast.RShift: operator.rshift,
}


@dataclass(frozen=True, slots=True, eq=False)
class Grammar:
    """What an expression may use beyond literals, names, attributes, subscripts and comparisons."""

    name: str
    functions: Mapping[str, Callable[..., Any]]
    binary: Mapping[type[ast.operator], Callable[[Any, Any], Any]]
    is_full: bool


STRICT = Grammar("safe_expr", _STRICT_FUNCTIONS, _STRICT_BINARY, is_full=False)
FULL = Grammar("expr", _FULL_FUNCTIONS, _FULL_BINARY, is_full=True)
