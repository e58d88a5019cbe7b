"""Which file a module's name means, when machines come from several folders. Everything here looks; nothing is imported.

A process has one table of modules, and stored values name their classes by it: `machine:Order`. So a name must mean one file,
whatever was loaded first. Where two files lay claim to a name, `NameTaken` is raised.
"""

import ast
import importlib.util
import os
import site
import sys
import sysconfig
from collections.abc import Iterator
from functools import lru_cache
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

import app

__all__ = ["NameTaken", "file_of", "is_foreign", "is_same", "require_neighbours", "require_neighbours_of", "require_not_hidden"]

_HOWTO = "rename one of them, or make a package of each folder (with an __init__.py) and use relative imports"


class NameTaken(Exception):
    """Two files would be the same module."""

    def __init__(self, message: str) -> None:
        super().__init__(f"{message}: {_HOWTO}")


def file_of(name: str) -> Path | None:
    """Return the file of the module `name`, loaded or not; None if there is no such module, or it has no file.

    Imports the packages around it.
    """
    loaded = sys.modules.get(name)
    if loaded is not None:
        file = getattr(loaded, "__file__", None)
        return Path(file) if file else None
    try:
        return _origin(importlib.util.find_spec(name))
    except ModuleNotFoundError as exc:  # what is before the last dot is no package; not what a package fails to import
        if exc.name is not None and not f"{name}.".startswith(f"{exc.name}."):
            raise
        return None


def is_same(one: Path | None, other: Path | None) -> bool:
    return one is not None and other is not None and one.resolve() == other.resolve()


def is_foreign(name: str) -> bool:
    """Whether the module `name` is Python's, Stepwell's or of an installed package: a user's file never takes its place."""
    top = name.partition(".")[0]
    if top in sys.builtin_module_names or top in sys.stdlib_module_names:
        return True
    file = file_of(top)
    return file is not None and any(file.is_relative_to(each) or file.resolve().is_relative_to(each) for each in _installed())


def require_not_hidden(module: ModuleType, folders: list[str]) -> None:
    """Raise NameTaken if `module` was loaded from a file's folder in `folders`, and its name means another file without them."""
    top = module.__name__.partition(".")[0]
    others = [each for each in sys.path if each not in folders]
    meant, found = _origin(PathFinder.find_spec(top, [*others, os.getcwd()])), file_of(top)
    if meant is not None and found is not None and not is_same(meant, found):
        raise NameTaken(f"{meant} and {found}, which is loaded already, are both the module {top!r}")


def require_neighbours(folders: list[str]) -> None:
    """Raise NameTaken if a loaded module of one of `folders` imports a name that means its neighbour, and gets another file."""
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if file and file.endswith(".py") and (os.path.dirname(file) in folders or str(_root_of(Path(file))) in folders):
            require_neighbours_of(Path(file))


def require_neighbours_of(file: Path) -> None:
    """The same for one file, which need not be loaded."""
    folders = dict.fromkeys([*([file.parent] if str(file.parent) in sys.path else []), _root_of(file)])
    for name in _imported(str(file), _changed_at(file)):
        here = next((each for folder in folders for each in _places(folder, name)), None)
        if here is None or is_foreign(name):
            continue
        found = file_of(name)
        if found is not None and not is_same(found, here):
            raise NameTaken(f"{file} imports {name!r}, and would get {found} instead of {here} beside it")


def _places(folder: Path, name: str) -> Iterator[Path]:
    yield from (each for each in (folder / name / "__init__.py", folder / f"{name}.py") if each.is_file())


def _root_of(file: Path) -> Path:
    """Return the folder that contains `file`, or the outermost package around it."""
    folder = file.parent
    while (folder / "__init__.py").is_file():
        folder = folder.parent
    return folder


def _origin(spec: ModuleSpec | None) -> Path | None:
    return Path(spec.origin) if spec is not None and spec.has_location and spec.origin else None


def _changed_at(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0


@lru_cache(maxsize=1024)
def _imported(file: str, _changed_at: float) -> frozenset[str]:
    """Return the first parts of the modules that a file imports by their full names, anywhere in it."""
    try:
        tree = ast.parse(Path(file).read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):  # whoever imports it is told
        return frozenset()
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {each.name.partition(".")[0] for each in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.partition(".")[0])
    return frozenset(names)


@lru_cache(maxsize=1)
def _installed() -> tuple[Path, ...]:
    paths = {sysconfig.get_path(each) for each in ("stdlib", "platstdlib", "purelib", "platlib")}
    paths |= {*site.getsitepackages(), site.getusersitepackages()}
    return (Path(app.__file__).resolve().parent, *(Path(each) for each in sorted(paths)))
