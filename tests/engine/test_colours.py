"""One truth, two colours: a sync function and its async twin never have the same body, but in the drivers, which only do.

Read from the source: `async`, `await` and the `a` of `aiter`, `anext` and `aclose` are taken away, and what is left is compared.
"""

import ast
from pathlib import Path

ENGINE = Path(__file__).parent.parent.parent / "app" / "engine"
MAY_MATCH = {"drivers.py"}
SMALLEST = 3  # statements, those inside others counted; two lines that hand over to shared code are no logic


class _Uncoloured(ast.NodeTransformer):
    """Takes the colour off a body, and the names off its twin's."""

    def visit_Await(self, node: ast.Await) -> ast.AST:
        return self.visit(node.value)

    def visit_AsyncFor(self, node: ast.AsyncFor) -> ast.AST:
        return self.generic_visit(ast.For(node.target, node.iter, node.body, node.orelse))

    def visit_AsyncWith(self, node: ast.AsyncWith) -> ast.AST:
        return self.generic_visit(ast.With(node.items, node.body))

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self.generic_visit(ast.FunctionDef(node.name, node.args, node.body, node.decorator_list, node.returns))

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Name(_plain(node.id), node.ctx)

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        return ast.Attribute(self.visit(node.value), _plain(node.attr), node.ctx)


def _plain(name: str) -> str:
    bare = name.lstrip("_").removeprefix("a").removeprefix("_")
    return bare.replace("Async", "").replace("async", "").replace("close", "")


def _statements(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.stmt]:
    return [each for each in function.body if not (isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant))]


def _size(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return sum(isinstance(each, ast.stmt) for statement in _statements(function) for each in ast.walk(statement))


def _twins(file: Path) -> list[str]:
    bodies: dict[str, tuple[str, bool]] = {}
    found = []
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or _size(node) < SMALLEST:
            continue
        is_async = isinstance(node, ast.AsyncFunctionDef)
        body = ast.dump(ast.Module([_Uncoloured().visit(each) for each in _statements(node)], []))
        other = bodies.setdefault(body, (node.name, is_async))
        if other[1] != is_async:
            found.append(f"{file.name}: {other[0]} and {node.name}")
    return found


def test_no_function_of_the_engine_has_a_twin_of_the_other_colour() -> None:
    files = [file for file in sorted(ENGINE.glob("*.py")) if file.name not in MAY_MATCH]
    assert len(files) > 30
    assert [twins for file in files for twins in _twins(file)] == []
