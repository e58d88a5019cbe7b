"""What can be seen of a machine's bad manners in its source, before it is deployed: `stepwell check FILE`.

Reads syntax and runs nothing. Knows what a name stands for from the file's imports and from `name = Class(...)`; follows
calls of the file's own functions. What it cannot see, the watchdog finds at run time.
"""

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from app.executors.blocking_calls import BlockingKind, Remedy, remedy_for

__all__ = ["Finding", "check_source"]

IGNORE = "# stepwell: ok"
ACTION_DECORATORS = ("action", "streaming_action", "pydantic_action", "pydantic_streaming_action")
ACTION_METHODS = ("run", "run_and_update", "stream_run", "stream_run_and_update")
IO_KINDS = (BlockingKind.SLEEP, BlockingKind.NETWORK, BlockingKind.DATABASE, BlockingKind.SUBPROCESS)


@dataclass(frozen=True, slots=True)
class Finding:
    """One line that is suspect. A hint costs only a thread; what is no hint stops every session."""

    line: int
    column: int
    rule: str
    message: str
    is_hint: bool


@dataclass(frozen=True, slots=True)
class _Blocking:
    """A call that blocks, where it stands, and through which functions of the file it was reached."""

    node: ast.Call
    name: str
    remedy: Remedy
    via: tuple[str, ...] = ()


_Function = ast.FunctionDef | ast.AsyncFunctionDef


def check_source(text: str, filename: str = "<machine>") -> list[Finding]:
    """Return what is suspect in a source file, by line. Raises SyntaxError.

    A line that ends in `# stepwell: ok` is left alone.
    """
    tree = ast.parse(text, filename)
    names = _Names(tree)
    lines = text.splitlines()
    findings = []
    for function, parent in _functions(tree):
        if isinstance(function, ast.AsyncFunctionDef):
            findings += [_blocks(function, call) for call in names.blocking_calls(function)]
        elif _is_action(function, parent):
            calls = [call for call in names.blocking_calls(function) if call.remedy.kind in IO_KINDS]
            findings += [_waits(function, call) for call in calls[:1]]
    findings.sort(key=lambda finding: (finding.line, finding.column))
    first_of_kind = {(finding.line, finding.rule): finding for finding in reversed(findings)}
    kept = [finding for finding in findings if first_of_kind[finding.line, finding.rule] is finding]
    return [finding for finding in kept if not lines[finding.line - 1].rstrip().endswith(IGNORE)]


def _blocks(function: _Function, call: _Blocking) -> Finding:
    message = f"async function {function.name!r} calls {_told(call)}, which blocks every session: {call.remedy.instead}"
    return Finding(call.node.lineno, call.node.col_offset + 1, f"blocking-{call.remedy.kind.value}", message, False)


def _waits(function: _Function, call: _Blocking) -> Finding:
    message = (
        f"sync action {function.name!r} looks I/O-bound: {_told(call)} keeps a thread waiting; "
        f"make it async, and {call.remedy.instead}"
    )
    return Finding(call.node.lineno, call.node.col_offset + 1, "sync-io", message, True)


def _told(call: _Blocking) -> str:
    return " -> ".join([*(f"{name}()" for name in call.via), f"{call.name}()"])


def _functions(tree: ast.Module) -> Iterator[tuple[_Function, ast.AST]]:
    for parent in ast.walk(tree):
        for node in ast.iter_child_nodes(parent):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield node, parent


def _is_action(function: _Function, parent: ast.AST) -> bool:
    if any(_last_name(decorator) in ACTION_DECORATORS for decorator in function.decorator_list):
        return True
    is_class = isinstance(parent, ast.ClassDef) and any("Action" in _last_name(base) for base in parent.bases)
    return is_class and function.name in ACTION_METHODS


def _last_name(node: ast.AST) -> str:
    if isinstance(node, ast.Call):
        node = node.func
    if isinstance(node, ast.Attribute):
        # `action.pydantic(...)` is an action, too
        return _last_name(node.value) if node.attr == "pydantic" else node.attr
    return node.id if isinstance(node, ast.Name) else ""


class _Names:
    """What names stand for in one file: modules, what was taken from them, objects of their classes, own functions."""

    def __init__(self, tree: ast.Module) -> None:
        self._meanings: dict[str, str] = {}
        self._own = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    self._meanings[alias.asname or alias.name.partition(".")[0]] = (
                        alias.name if alias.asname else alias.name.partition(".")[0]
                    )
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                for alias in node.names:
                    self._meanings[alias.asname or alias.name] = f"{node.module}.{alias.name}"
        for node in ast.walk(tree):
            self._learn_objects(node)

    def blocking_calls(self, function: _Function, via: tuple[str, ...] = ()) -> list[_Blocking]:
        """Return the calls in `function` that block, those in the file's own sync functions that it calls included."""
        found = []
        for call in _calls_in(function):
            name = self._name_of(call.func)
            own = self._own.get(name)
            if own is not None and name not in via and own is not function:
                inner = self.blocking_calls(own, (*via, name))
                found += [_Blocking(call, each.name, each.remedy, (name, *each.via)) for each in inner[:1]]
            elif (remedy := remedy_for(name)) is not None:
                found.append(_Blocking(call, name, remedy))
        return found

    def _learn_objects(self, node: ast.AST) -> None:
        """`name = Class(...)` and `with Class(...) as name`: a method of `name` is one of Class."""
        pairs: Sequence[tuple[ast.expr | None, ast.expr | None]] = ()
        if isinstance(node, ast.Assign):
            pairs = [(target, node.value) for target in node.targets]
        elif isinstance(node, ast.AnnAssign):
            pairs = [(node.target, node.value)]
        elif isinstance(node, ast.With):
            pairs = [(item.optional_vars, item.context_expr) for item in node.items]
        for target, value in pairs:
            if isinstance(target, ast.Name) and isinstance(value, ast.Call):
                meaning = self._name_of(value.func)
                if "." in meaning or meaning == "open":
                    self._meanings[target.id] = meaning

    def _name_of(self, node: ast.expr) -> str:
        """Return the dotted name that an expression stands for; "" when it cannot be known."""
        match node:
            case ast.Name(id=name):
                return self._meanings.get(name, name)
            case ast.Attribute(value=value, attr=attribute):
                owner = self._name_of(value)
                return f"{owner}.{attribute}" if owner else ""
            case ast.Call(func=function):
                return self._name_of(function)
            case _:
                return ""


def _calls_in(function: _Function) -> Iterator[ast.Call]:
    """The calls that `function` makes itself, but for awaited ones: those in functions and lambdas inside it are not its own."""
    waiting: list[ast.AST] = list(reversed(function.body))
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            continue
        if isinstance(node, ast.Await) and isinstance(node.value, ast.Call):
            waiting += reversed([node.value.func, *node.value.args, *(keyword.value for keyword in node.value.keywords)])
            continue
        if isinstance(node, ast.Call):
            yield node
        waiting += reversed(list(ast.iter_child_nodes(node)))
