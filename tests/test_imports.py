"""The layers, read from the source: imports point down only, and the core of the engine touches nothing outside itself."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
APP = ROOT / "app"

# Each layer may import itself and what stands at its right hand. Files beside the packages are the top.
BELOW: dict[str, frozenset[str]] = {
    "top": frozenset({"routes", "sessions", "executors", "persistence", "engine", "client", "dashboard", "system"}),
    "dashboard": frozenset({"routes", "sessions", "executors", "persistence", "engine"}),
    "routes": frozenset({"sessions", "executors", "persistence", "engine", "system"}),
    "sessions": frozenset({"executors", "persistence", "engine", "system"}),
    "executors": frozenset({"engine", "system"}),
    "persistence": frozenset({"engine", "system"}),
    "engine": frozenset(),
    "system": frozenset(),
    "client": frozenset(),
}

PURE = ("state", "conditions", "graph", "core", "effects", "operations", "ports", "pointers")
PURE_MAY_IMPORT = frozenset(
    {
        "__future__", "abc", "ast", "collections", "contextlib", "copy", "dataclasses", "enum", "functools", "hashlib",
        "inspect", "itertools", "keyword", "math", "numbers", "operator", "re", "reprlib", "string", "textwrap", "time", "types",
        "typing", "typing_extensions", "warnings", "weakref", "app",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Import:
    file: Path
    line: int
    module: str

    def __str__(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.line} imports {self.module}"


def imports_of(file: Path) -> Iterator[Import]:
    """All imports of `file`, also those inside functions and under TYPE_CHECKING, relative ones made absolute."""
    package = file.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(file, node.lineno, alias.name)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join((*package[: len(package) - node.level + 1], node.module or "")) if node.level else node.module or ""
            yield Import(file, node.lineno, base)
            for alias in node.names:  # `from app import routes` is an import of app.routes
                yield Import(file, node.lineno, f"{base.rstrip('.')}.{alias.name}")


def layer_of(module: str) -> str | None:
    """The layer of a module of ours, None for the bare package."""
    parts = module.split(".")
    if len(parts) == 1:
        return None
    if (APP / parts[1]).is_dir():
        return parts[1]
    return "top" if (APP / f"{parts[1]}.py").is_file() else None


def all_imports() -> list[Import]:
    return [found for file in sorted(APP.rglob("*.py")) for found in imports_of(file)]


def layer_of_file(file: Path) -> str:
    parts = file.relative_to(APP).parts
    return parts[0] if len(parts) > 1 else "top"


def test_every_package_of_the_app_has_its_place_in_the_layers() -> None:
    packages = {each.name for each in APP.iterdir() if each.is_dir() and any(each.glob("*.py"))}
    assert packages <= BELOW.keys()


def test_imports_point_down_only() -> None:
    upward = []
    for found in all_imports():
        if found.module.split(".")[0] != "app":
            continue
        source, target = layer_of_file(found.file), layer_of(found.module)
        if target is not None and target != source and target not in BELOW[source]:
            upward.append(str(found))
    assert upward == []


def test_an_upward_import_would_be_noticed(tmp_path: Path) -> None:
    assert layer_of("app.routes.api") == "routes"
    assert layer_of("app.settings") == "top"
    assert "routes" not in BELOW["sessions"]
    assert "top" not in BELOW["routes"]


def test_the_app_never_imports_burr() -> None:
    assert [str(found) for found in all_imports() if found.module.split(".")[0] == "burr"] == []


def test_the_app_never_imports_tests_examples_or_benchmarks() -> None:
    outside = {"tests", "examples", "benchmarks"}
    assert [str(found) for found in all_imports() if found.module.split(".")[0] in outside] == []


def pure_files() -> list[Path]:
    return [
        file for name in PURE for file in (APP / "engine" / f"{name}.py", *(APP / "engine" / name).glob("*.py")) if file.exists()
    ]


@pytest.mark.parametrize("file", pure_files(), ids=lambda file: file.stem)
def test_a_file_of_the_core_imports_no_io_and_no_logging(file: Path) -> None:
    foreign = [found for found in runtime_imports_of(file) if found.module.split(".")[0] not in PURE_MAY_IMPORT]
    assert [str(found) for found in foreign] == []


def test_the_core_reaches_no_io_through_the_files_it_imports() -> None:
    # what the pure files import of the engine, followed all the way, must not be one of the engine's drivers
    seen: set[str] = set()
    waiting = [f"app.engine.{file.stem}" for file in pure_files()]
    while waiting:
        module = waiting.pop()
        file = ROOT.joinpath(*module.split(".")).with_suffix(".py")
        if module in seen or not file.is_file():
            continue
        seen.add(module)
        waiting += [found.module for found in runtime_imports_of(file) if found.module.startswith("app.engine.")]
    reached = {name.removeprefix("app.engine.") for name in seen}
    assert reached.isdisjoint({"drivers", "application", "builder"})


def runtime_imports_of(file: Path) -> list[Import]:
    """The imports that happen at run time: those under `if TYPE_CHECKING:` are left out."""
    tree = ast.parse(file.read_text("utf-8"))
    guarded = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}
        for child in node.body
        for inner in range(child.lineno, (child.end_lineno or child.lineno) + 1)
    }
    return [found for found in imports_of(file) if found.line not in guarded]


def test_nothing_of_the_host_waits_for_a_thread_of_the_loops_default_executor() -> None:
    """It belongs to users: see docs/adr/0038. The engine alone runs on a loop of the user's."""
    uses = [
        f"{file.relative_to(ROOT)}:{node.lineno}"
        for file in sorted(APP.rglob("*.py"))
        if layer_of_file(file) != "engine"
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.Call) and _uses_the_default_executor(node)
    ]
    assert uses == []


def _uses_the_default_executor(call: ast.Call) -> bool:
    match call.func, call.args:
        case ast.Attribute(attr="to_thread" | "getaddrinfo"), _:
            return ast.unparse(call.func) != "socket.getaddrinfo"
        case ast.Attribute(attr="run_in_executor"), [ast.Constant(value=None), *_]:
            return True
        case ((ast.Name(id=name) | ast.Attribute(attr=name)), _):
            return name in ("run_in_threadpool", "iterate_in_threadpool")
    return False


def test_the_host_takes_the_time_of_day_from_nowhere_but_its_own_clock() -> None:
    """Replicas have to agree on it: see docs/adr/0004."""
    layers = ("sessions", "persistence", "routes")
    alone = {APP / "persistence" / "persisters.py", APP / "persistence" / "postgres_queue.py"}  # in scripts; what a notice says
    uses = [
        f"{file.relative_to(ROOT)}:{node.lineno}"
        for file in sorted(APP.rglob("*.py"))
        if layer_of_file(file) in layers and file not in alone
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.Attribute)
        and ast.unparse(node) in ("time.time", "time.time_ns", "datetime.now", "datetime.utcnow")
    ]
    assert uses == []
