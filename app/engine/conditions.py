"""Conditions: what must hold of the state, or of an error, for a transition to be taken.

A condition decides and does nothing else. Expressions are interpreted by `safe_expr`, never evaluated as Python code.
"""

import operator
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any, ClassVar, SupportsIndex

from app.engine.actions import Function
from app.engine.errors import ConditionError, UnsafeExpression, kind_of, nearest
from app.engine.expr_grammar import FULL, STRICT
from app.engine.quitting import asked, is_one_of
from app.engine.safe_expr import Parsed, parse
from app.engine.state import State

__all__ = ["Condition", "OnError", "default", "expr", "lmda", "on_error", "safe_expr", "when"]

Resolver = Callable[[State[Any]], bool]


class Condition(Function):
    """A named question about a state. Combine conditions with `&`, `|` and `~`.

    `keys` must exist in the state when the question is asked: a missing one raises ConditionError.
    """

    KEY = "PROCEED"
    default: ClassVar["Condition"]

    def __init__(
        self,
        keys: list[str],
        resolver: Resolver,
        name: str | None = None,
        optional_keys: list[str] | None = None,
    ) -> None:
        self._keys = keys
        self._resolver = resolver
        self._name = name
        self._optional_keys = list(optional_keys or ())
        self._made_by: str | tuple[Callable[..., Condition], tuple[Any, ...]] | None = None

    def __reduce_ex__(self, protocol: SupportsIndex) -> str | tuple[Any, ...]:
        # a resolver of ours is a closure, which cannot travel: what it was made of can
        return self._made_by or super().__reduce_ex__(protocol)

    def _made(self, by: Callable[..., "Condition"], *arguments: Any) -> "Condition":
        self._made_by = (by, arguments)
        return self

    @staticmethod
    def expr(expr: str) -> "Condition":
        """Return a condition that holds when the Python expression `expr` over the keys of the state is true.

        The expression is interpreted: comparisons, arithmetic, comprehensions, conditional expressions, harmless builtins
        and methods of builtin values. Raises UnsafeExpression for anything else. One that fails on a state raises
        ConditionError, which says how, and shows no value.
        """
        return _expr(expr)

    @staticmethod
    def safe_expr(expr: str) -> "Condition":
        """Return a condition like `expr` for an expression that comes from outside.

        Only literals, names, public attributes, subscripts, comparisons, arithmetic and a few builtins. Raises
        UnsafeExpression for anything else, and SyntaxError for what is no expression.
        """
        parsed = parse(expr, STRICT)
        return Condition(list(parsed.keys), _asking(parsed), name=expr)._made(Condition.safe_expr, expr)

    @staticmethod
    def lmda(resolver: Resolver, state_keys: list[str]) -> "Condition":
        """Return a condition that holds when `resolver` says so of the state."""
        return Condition(state_keys, resolver, name=f"lmda_{resolver.__name__}_")

    @classmethod
    def when(cls, /, **kwargs: Any) -> "Condition":
        """Return a condition that holds when every given key fits its value.

        `key=value` means equal; a suffix asks something else: `eq`, `ne`, `lt`, `lte`, `gt`, `gte`, `in`, `notin`, `contains`,
        `is` and `isnot`, as in `age__gte=18`.
        """
        is_plain = all(type(value) in (str, int, bool, type(None)) for value in kwargs.values())
        return _known_when(**kwargs) if is_plain else _when(**kwargs)

    @property
    def name(self) -> str:
        return self._name  # type: ignore[return-value]  # Burr's signature; a condition made by hand may have none

    @property
    def reads(self) -> list[str]:
        return self._keys

    @property
    def resolver(self) -> Resolver:
        return self._resolver

    def holds(self, state: State[Any]) -> bool:
        """Return whether the condition holds. Raises ConditionError if the state misses one of its keys."""
        known = state._values if type(state) is State else state  # a dict is quicker to ask
        for key in self._keys:
            if key not in known:
                found = f"the state has {sorted(state)}{nearest(key, state)}"
                raise ConditionError(f"condition {self._name!r} needs the key {key!r}; {found}")
        return bool(self._resolver(state))

    def run(self, state: State[Any], **run_kwargs: Any) -> dict[str, Any]:  # noqa: ARG002
        return {Condition.KEY: self.holds(state)}

    def __repr__(self) -> str:
        return f"condition: {self._name}"

    def __and__(self, other: "Condition") -> "Condition":
        _expect_condition(other, "and")
        if isinstance(other, OnError):
            return other & self
        both = Condition(
            self._keys + other._keys,
            lambda state: self._resolver(state) and other._resolver(state),
            name=f"{self._name} & {other._name}",
        )
        return both._made(operator.and_, self, other)

    def __or__(self, other: "Condition") -> "Condition":
        _expect_condition(other, "or")
        if isinstance(other, OnError):
            return other | self
        either = Condition(
            self._keys + other._keys,
            lambda state: self._resolver(state) or other._resolver(state),
            name=f"{self._name} | {other._name}",
        )
        return either._made(operator.or_, self, other)

    def __invert__(self) -> "Condition":
        negated = Condition(self._keys, lambda state: not self._resolver(state), name=f"~{self._name}")
        return negated._made(operator.invert, self)


class OnError(Condition):
    """Holds when the action that the transition leaves raised one of some errors.

    The step goes on with the transition's target, on the state as it was before; one transition is taken at most `max_attempts`
    times within a step, after which the next one that holds is taken, or the error leaves the run. Joined with `&`, other
    conditions are asked about the state, too.
    """

    def __init__(
        self,
        error: type[BaseException] | tuple[type[BaseException], ...],
        max_attempts: int = 3,
        also: Condition | None = None,
    ) -> None:
        types = error if isinstance(error, tuple) else (error,)
        name = f"on_error({', '.join(each.__name__ for each in types)}, max_attempts={max_attempts})"
        super().__init__([], lambda _: False, name=name if also is None else f"{name} & {also.name}")
        if max_attempts < 1:
            raise ConditionError(f"on_error needs max_attempts of at least 1, not {max_attempts}")
        self.error_types = types
        self.max_attempts = max_attempts
        self.also = also
        self._made(OnError, types, max_attempts, also)

    def handles(self, error: Exception, taken: int, state: State[Any]) -> bool:
        """Return whether the transition is to be taken after `error`, having been taken `taken` times in this step."""
        if taken >= self.max_attempts or not is_one_of(error, self.error_types):
            return False
        return self.also is None or asked(self.also.holds, state)

    def __and__(self, other: Condition) -> Condition:
        _expect_condition(other, "and")
        if isinstance(other, OnError):
            raise ConditionError(f"{self.name} cannot be joined with another on_error; give one on_error a tuple of errors")
        return OnError(self.error_types, self.max_attempts, other if self.also is None else self.also & other)

    def __or__(self, other: Condition) -> Condition:
        raise ConditionError(f"{self.name} cannot be an alternative to {other!r}; use two transitions")

    def __invert__(self) -> Condition:
        raise ConditionError(f"{self.name} cannot be negated; a transition without on_error is one for success")


def on_error(error: type[BaseException] | tuple[type[BaseException], ...], max_attempts: int = 3) -> Condition:
    """Return a condition for a transition that is taken when its action raises `error`. See OnError."""
    return OnError(error, max_attempts)


class _Test:
    """One argument of `when`: a key, how it is compared, and with what."""

    OPERATORS: ClassVar[Mapping[str, tuple[str, Callable[[Any, Any], Any]]]] = {
        "eq": ("==", operator.eq),
        "ne": ("!=", operator.ne),
        "lt": ("<", operator.lt),
        "lte": ("<=", operator.le),
        "gt": (">", operator.gt),
        "gte": (">=", operator.ge),
        "in": (" in ", lambda a, b: a in b),
        "notin": (" not in ", lambda a, b: a not in b),
        "contains": (" contains ", operator.contains),
        "is": (" is ", operator.is_),
        "isnot": (" is not ", operator.is_not),
    }

    def __init__(self, argument: str, value: Any) -> None:
        key, _, suffix = argument.rpartition("__")
        self.value = value
        if suffix in self.OPERATORS and argument != suffix:
            if not key:
                raise ConditionError(f"when() got {argument!r}: there is no key before '__{suffix}'")
            self.key, self.is_plain = key, False
            self.symbol, self.compare = self.OPERATORS[suffix]
        else:
            self.key, self.is_plain = argument, True
            self.symbol, self.compare = self.OPERATORS["eq"]

    def __str__(self) -> str:
        return f"{self.key}={self.value}" if self.is_plain else f"{self.key}{self.symbol}{self.value!r}"


@lru_cache(maxsize=1024)  # builders ask for the same ones again and again
def _expr(text: str) -> Condition:
    parsed = parse(text, FULL)
    return Condition(list(parsed.keys), _asking(parsed), name=text)._made(Condition.expr, text)


def _when(**kwargs: Any) -> Condition:
    tests = [_Test(key, value) for key, value in kwargs.items()]
    keys = list(dict.fromkeys(test.key for test in tests))
    name = ", ".join(str(test) for test in sorted(tests, key=lambda test: test.key))
    asked = Condition(keys, _passing(tests), name=name)
    return asked._made(partial(Condition.when, **kwargs))


_known_when = lru_cache(maxsize=1024, typed=True)(_when)


def _passing(tests: list[_Test]) -> Resolver:
    asked = [(test.key, test.compare, test.value) for test in tests]

    def holds(state: State[Any]) -> bool:
        values = state._values if type(state) is State else state
        for key, compare, value in asked:  # noqa: SIM110  # a generator costs three times as much
            if not compare(values.get(key), value):
                return False
        return True

    return holds


def _asking(parsed: Parsed) -> Resolver:
    evaluate = parsed.evaluate

    def holds(state: State[Any]) -> bool:
        try:
            return bool(evaluate(state._values if type(state) is State else state))
        except UnsafeExpression:
            raise
        except Exception as error:  # what it says may hold a value of the state
            raise ConditionError(f"condition {parsed.text!r} raised {type(error).__name__} on this state") from None

    return holds


def _expect_condition(other: object, verb: str) -> None:
    if not isinstance(other, Condition):
        raise ConditionError(f"cannot {verb} a condition with {kind_of(other)}; expected a condition")


Condition.default = Condition([], lambda _: True, name="default")
Condition.default._made_by = "default"  # there is only one

default = Condition.default
when = Condition.when
expr = Condition.expr
safe_expr = Condition.safe_expr
lmda = Condition.lmda
