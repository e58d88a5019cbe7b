"""Python expressions over the keys of a state, interpreted node by node: there is no way from here to `eval`.

An expression is checked against a list of allowed nodes and turned into nested closures when a condition is made. It cannot
import, assign, define, reach private attributes, or call anything but the functions and the methods listed in `expr_grammar`.
One that does more than compare has a budget of work, which travels with the names under a key that no name can have.
"""

import ast
import builtins
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter
from typing import Any, TypeAlias

from app.engine.errors import UnsafeExpression
from app.engine.expr_budget import Budget
from app.engine.expr_grammar import COMPARISONS, METHODS, PRIVATE, UNARY, Grammar

__all__ = ["Parsed", "parse"]

_BUDGET = ""  # no name is empty
_LONGEST = 10_000

Names: TypeAlias = Mapping[str, Any]
Evaluate: TypeAlias = Callable[[Names], Any]


@dataclass(frozen=True, slots=True)
class Parsed:
    """An expression that was found to be harmless; `keys` are the names that it needs."""

    text: str
    keys: tuple[str, ...]
    evaluate: Evaluate


@lru_cache(maxsize=1024)
def parse(text: str, grammar: Grammar) -> Parsed:
    """Return `text` ready to be evaluated. Raises SyntaxError, or UnsafeExpression for what `grammar` does not have."""
    if len(text) > _LONGEST:
        raise SyntaxError(f"an expression may have {_LONGEST} characters; this one has {len(text)}")
    try:
        tree = ast.parse(text.strip(), mode="eval")
        compiler = _Compiler(grammar, is_metered=False)
        evaluate = compiler.compile(tree.body)
        if compiler.needs_budget:
            compiler = _Compiler(grammar, is_metered=True)
            evaluate = _metered(compiler.compile(tree.body), grammar, tuple(compiler.mentioned))
    except (MemoryError, RecursionError):
        raise SyntaxError("the expression is nested too deeply") from None
    return Parsed(text, tuple(sorted(compiler.keys)), evaluate)


class _Compiler:
    """Turns nodes into closures over the names of the state, and collects those names."""

    def __init__(self, grammar: Grammar, *, is_metered: bool) -> None:
        self.grammar = grammar
        self.needs_budget = False
        self._is_metered = is_metered
        self.keys: set[str] = set()
        self.mentioned: set[str] = set()  # these, and names of builtins, which may be keys too
        self._bound: list[str] = []  # targets of the comprehensions around the current node

    def compile(self, node: ast.expr) -> Evaluate:
        kind = type(node).__name__
        compile_node = getattr(self, f"_{kind.lower()}", None)
        if compile_node is None:
            raise self._refuse(f"{kind} is not allowed")
        return compile_node(node)  # type: ignore[no-any-return]  # every method below returns Evaluate

    def _refuse(self, why: str) -> UnsafeExpression:
        return UnsafeExpression(f"{self.grammar.name}: disallowed construct: {why}")

    def _need_full(self, what: str) -> None:
        if not self.grammar.is_full:
            raise self._refuse(what)

    def _constant(self, node: ast.Constant) -> Evaluate:
        value = node.value
        if value is not None and not isinstance(value, int | float | str) and not self.grammar.is_full:
            raise self._refuse(f"a constant of type {type(value).__name__}")
        return lambda _: value

    def _name(self, node: ast.Name) -> Evaluate:
        name = node.id
        function = self.grammar.functions.get(name)
        if name in self._bound:
            return itemgetter(name)
        self.mentioned.add(name)
        if not hasattr(builtins, name):
            self.keys.add(name)
            return itemgetter(name)

        def find(names: Names) -> Any:  # a key of the state may have the name of a builtin
            if name in names:
                return names[name]
            if function is None:
                raise UnsafeExpression(f"{self.grammar.name}: {name!r} is neither a key of the state nor allowed")
            return function

        return find

    def _attribute(self, node: ast.Attribute) -> Evaluate:
        name = node.attr
        if name.startswith(PRIVATE):
            raise self._refuse(f"private attribute {name!r}")
        value = self.compile(node.value)
        return lambda names: getattr(value(names), name)

    def _subscript(self, node: ast.Subscript) -> Evaluate:
        value, index = self.compile(node.value), self.compile(node.slice)
        return lambda names: value(names)[index(names)]

    def _slice(self, node: ast.Slice) -> Evaluate:
        parts = [self.compile(part) if part is not None else (lambda _: None) for part in (node.lower, node.upper, node.step)]
        return lambda names: slice(*(part(names) for part in parts))

    def _compare(self, node: ast.Compare) -> Evaluate:
        first = self.compile(node.left)
        links = [(COMPARISONS[type(op)], self.compile(right)) for op, right in zip(node.ops, node.comparators, strict=True)]
        if len(links) == 1 and not self._is_metered:
            return _comparison(first, *links[0], node.comparators[0])
        is_metered = self._is_metered

        def compare(names: Names) -> Any:
            left, holds = first(names), True
            for test, right_of in links:
                right = right_of(names)
                if is_metered:
                    names[_BUDGET].spend_comparison(left, right)
                holds = test(left, right)
                if not holds:
                    break
                left = right
            return holds

        return compare

    def _boolop(self, node: ast.BoolOp) -> Evaluate:
        parts = [self.compile(value) for value in node.values]
        stops_at = isinstance(node.op, ast.Or)

        def decide(names: Names) -> Any:
            value: Any = not stops_at
            for part in parts:
                value = part(names)
                if bool(value) is stops_at:
                    break
            return value

        return decide

    def _unaryop(self, node: ast.UnaryOp) -> Evaluate:
        if isinstance(node.op, ast.Invert):
            self._need_full("operator ~")
        apply, operand = UNARY[type(node.op)], self.compile(node.operand)
        return lambda names: apply(operand(names))

    def _binop(self, node: ast.BinOp) -> Evaluate:
        apply = self.grammar.binary.get(type(node.op))
        if apply is None:
            raise self._refuse(f"operator {type(node.op).__name__}")
        left, right = self.compile(node.left), self.compile(node.right)
        self.needs_budget = True
        return lambda names: names[_BUDGET].operate(apply, left(names), right(names))

    def _ifexp(self, node: ast.IfExp) -> Evaluate:
        self._need_full("a conditional expression")
        test, then, other = self.compile(node.test), self.compile(node.body), self.compile(node.orelse)
        return lambda names: then(names) if test(names) else other(names)

    def _items(self, nodes: list[ast.expr]) -> Callable[[Names], Iterator[Any]]:
        parts = [self.compile(node) for node in nodes]
        return lambda names: (part(names) for part in parts)

    def _tuple(self, node: ast.Tuple) -> Evaluate:
        items = self._items(node.elts)
        return lambda names: tuple(items(names))

    def _list(self, node: ast.List) -> Evaluate:
        items = self._items(node.elts)
        return lambda names: list(items(names))

    def _set(self, node: ast.Set) -> Evaluate:
        items = self._items(node.elts)
        return lambda names: set(items(names))

    def _dict(self, node: ast.Dict) -> Evaluate:
        if None in node.keys:
            raise self._refuse("** in a dict")
        keys, values = self._items([key for key in node.keys if key is not None]), self._items(node.values)
        return lambda names: dict(zip(keys(names), values(names), strict=True))

    def _call(self, node: ast.Call) -> Evaluate:
        if any(isinstance(each, ast.Starred) for each in node.args) or any(each.arg is None for each in node.keywords):
            raise self._refuse("* and ** arguments")
        if node.keywords:
            self._need_full("keyword arguments")
        function = self._callee(node.func)
        arguments = self._items(node.args)
        keywords = [(each.arg or "", self.compile(each.value)) for each in node.keywords]
        self.needs_budget = True
        return lambda names: names[_BUDGET].call(
            function(names), tuple(arguments(names)), {name: value(names) for name, value in keywords}
        )

    def _callee(self, node: ast.expr) -> Evaluate:
        if isinstance(node, ast.Name):
            function = self.grammar.functions.get(node.id)
            if function is None or node.id in self._bound:
                raise self._refuse(f"call of {node.id!r}")
            return lambda _: function
        if isinstance(node, ast.Attribute) and self.grammar.is_full:
            return self._method(node)
        raise self._refuse("a call of something other than an allowed function")

    def _method(self, node: ast.Attribute) -> Evaluate:
        value, name = self.compile(node.value), node.attr

        def bind(names: Names) -> Any:
            owner = value(names)
            if name not in METHODS.get(type(owner), ()):
                raise UnsafeExpression(f"expr: method {name!r} of {type(owner).__name__} is not allowed")
            return getattr(owner, name)

        return bind

    def _listcomp(self, node: ast.ListComp) -> Evaluate:
        each = self._comprehension(node.generators, node.elt)
        return lambda names: list(each(names))

    def _setcomp(self, node: ast.SetComp) -> Evaluate:
        each = self._comprehension(node.generators, node.elt)
        return lambda names: set(each(names))

    def _generatorexp(self, node: ast.GeneratorExp) -> Evaluate:
        return self._comprehension(node.generators, node.elt)

    def _dictcomp(self, node: ast.DictComp) -> Evaluate:
        pairs = self._comprehension(node.generators, ast.Tuple([node.key, node.value], ast.Load()))
        return lambda names: dict(pairs(names))

    def _comprehension(self, generators: list[ast.comprehension], element: ast.expr) -> Callable[[Names], Iterator[Any]]:
        self._need_full("a comprehension")
        loops = []
        depth = len(self._bound)
        for generator in generators:
            if generator.is_async:
                raise self._refuse("an async comprehension")
            source = self.compile(generator.iter)
            targets = _targets(generator.target)
            if targets is None or any(name.startswith("_") and name != "_" for name in targets):
                raise self._refuse("a comprehension over anything but names")
            self._bound += targets
            loops.append((source, generator.target, [self.compile(test) for test in generator.ifs]))
        give = self.compile(element)
        del self._bound[depth:]
        self.needs_budget = True

        def walk(names: Names, level: int) -> Iterator[Any]:
            if level == len(loops):
                yield give(names)
                return
            source, target, tests = loops[level]
            for value in source(names):
                names[_BUDGET].spend_round()
                inner = {**names, **_assigned(target, value)}
                if all(test(inner) for test in tests):
                    yield from walk(inner, level + 1)

        return lambda names: walk(names, 0)

    def _joinedstr(self, node: ast.JoinedStr) -> Evaluate:
        self._need_full("a formatted string")
        if any(isinstance(part, ast.FormattedValue) and part.format_spec is not None for part in node.values):
            raise self._refuse("a format specification")
        parts = [self.compile(part.value if isinstance(part, ast.FormattedValue) else part) for part in node.values]
        self.needs_budget = True

        def join(names: Names) -> str:
            texts = []
            for part in parts:
                value = part(names)
                names[_BUDGET].spend_text(value)
                texts.append(str(value))
            return "".join(texts)

        return join


def _metered(evaluate: Evaluate, grammar: Grammar, mentioned: tuple[str, ...]) -> Evaluate:
    """Return `evaluate` with a budget for each evaluation."""
    functions = frozenset(map(id, grammar.functions.values()))

    def evaluate_within_budget(names: Names) -> Any:
        try:
            needed = {name: names[name] for name in mentioned if name in names}
            return evaluate({**needed, _BUDGET: Budget(grammar.name, functions)})
        except (MemoryError, RecursionError):
            raise UnsafeExpression(f"{grammar.name}: the expression makes values that are too large") from None

    return evaluate_within_budget


def _comparison(first: Evaluate, test: Callable[[Any, Any], Any], second: Evaluate, node: ast.expr) -> Evaluate:
    """Return a comparison of two values, by far the most frequent kind of condition."""
    if isinstance(node, ast.Constant):
        value = node.value
        return lambda names: test(first(names), value)
    return lambda names: test(first(names), second(names))


def _targets(node: ast.expr) -> list[str] | None:
    """Return the names that a comprehension binds; None if it binds something else."""
    if isinstance(node, ast.Name):
        return [node.id]
    if not isinstance(node, ast.Tuple | ast.List):
        return None
    names: list[str] = []
    for part in node.elts:
        found = _targets(part)
        if found is None:
            return None
        names += found
    return names


def _assigned(target: ast.expr, value: Any) -> dict[str, Any]:
    if isinstance(target, ast.Name):
        return {target.id: value}
    bound: dict[str, Any] = {}
    if isinstance(target, ast.Tuple | ast.List):
        for part, item in zip(target.elts, value, strict=True):
            bound.update(_assigned(part, item))
    return bound
