"""How a user's file or module is imported: where it goes on the path, and what a failure is called.

Running the user's code is the point; nothing here is for text that a stranger sent.
"""

import difflib
import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import app
from app.sessions.module_names import (
    NameTaken,
    file_of,
    is_foreign,
    is_same,
    require_neighbours,
    require_neighbours_of,
    require_not_hidden,
)

__all__ = ["ImportRefused", "describe", "import_file", "import_module"]

_file_folders: dict[str, None] = {}  # folders that are on the import path because a machine's file is in them
_OWN_PACKAGE = Path(app.__file__).resolve().parent
_OWN_NAME_HINT = "'app' is the name of Stepwell's own package"


class ImportRefused(Exception):
    """The user's code cannot be imported; the message says why, in a line."""


def import_file(file: Path) -> ModuleType:
    """Import `file` as a module, its folder appended to the import path. Raises ImportRefused.

    A file in a package is imported as part of it, so that its relative imports hold.
    """
    full = file.absolute()
    if not full.is_file():
        raise ImportRefused(_no_such_file(file))
    _make_importable(full.parent)
    root, name = _package_of(full)
    _make_importable(root)
    _file_folders.update(dict.fromkeys([str(full.parent), str(root)]))
    _expect(lambda: require_neighbours_of(full))
    module = _run(lambda: _import_as(full, name))
    sys.modules.setdefault(_former_name(full), module)  # under which an earlier version may have stored its classes
    _expect(lambda: require_neighbours([*_file_folders]))
    return module


def import_module(name: str) -> ModuleType:
    """Import the module `name`, from the current folder if it is nowhere else. Raises ImportRefused."""
    _make_importable(Path.cwd())
    try:
        module = _run(lambda: importlib.import_module(name))
    except ImportRefused as exc:
        missing = getattr(exc.__cause__, "name", None)
        if isinstance(exc.__cause__, ModuleNotFoundError) and f"{name}.".startswith(f"{missing}."):
            raise ImportRefused(f"there is no module {missing!r}") from exc.__cause__
        raise
    _expect(lambda: require_not_hidden(module, [*_file_folders]))
    _expect(lambda: require_neighbours([*_file_folders, str(Path.cwd())]))
    return module


def describe(exc: BaseException) -> str:
    """`exc` in a line, with the place in the user's code that it came from."""
    if isinstance(exc, SyntaxError):
        return f"{type(exc).__name__}: {exc.msg} ({exc.filename}:{exc.lineno})"
    frames = traceback.extract_tb(exc.__traceback__)
    # in angle brackets stands what is in no file, as the methods of a dataclass
    foreign = [each for each in frames if not each.filename.startswith((f"{_OWN_PACKAGE}{os.sep}", "<"))]
    users = [each for each in foreign if f"{os.sep}lib{os.sep}" not in each.filename]  # neither installed nor of the interpreter
    text = str(exc).strip()
    where = "".join(f" ({each.filename}:{each.lineno})" for each in (users or foreign)[-1:])
    return f"{type(exc).__name__}{': ' if text else ''}{text}{where}"


def _no_such_file(file: Path) -> str:
    if file.is_dir():
        return f"{file} is a folder: name a file in it"
    if file.with_name(f"{file.name}.py").is_file():
        return f"there is no file {file}; did you mean {file}.py?"
    siblings = [each.name for each in file.parent.glob("*.py")] if file.parent.is_dir() else []
    near = difflib.get_close_matches(file.name, siblings, n=1)
    return f"there is no file {file}" + "".join(f"; did you mean {file.with_name(name)}?" for name in near)


def _make_importable(folder: Path) -> None:
    """Put `folder` at the end of the import path, so that it can add modules but never replace Stepwell's own."""
    package, module = folder / "app", folder / "app.py"
    own = package if package.is_dir() and any(package.glob("*.py")) else module
    if own.exists() and own.resolve() != _OWN_PACKAGE:
        raise ImportRefused(f"{own} cannot be imported, because {_OWN_NAME_HINT}: rename it, and the imports of it")
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def _package_of(file: Path) -> tuple[Path, str]:
    """The folder from which `file` is imported, and its module name there."""
    folder, parts = file.parent, [] if file.stem == "__init__" else [file.stem]
    while (folder / "__init__.py").is_file():
        parts.insert(0, folder.name)
        folder = folder.parent
    return folder, ".".join(parts)


def _import_as(file: Path, name: str) -> ModuleType:
    """Import `file` as `name`, or under a name of its own when `name` belongs to an installed module (a user's `json.py`).

    Raises ImportRefused if another file of the user's has the name: whoever came first would have it.
    """
    names = [each for each in dict.fromkeys((name, file.stem)) if each.replace(".", "_").isidentifier()]
    for known_as in names:
        if is_same(file_of(known_as), file):
            return importlib.import_module(known_as)
    for known_as in names:
        if not is_foreign(known_as):
            _require_free(known_as, file)
            if "." not in known_as:
                return _execute(file, known_as)
    own_name = "stepwell_machine_" + _as_identifier(file.stem)
    loaded = sys.modules.get(own_name)
    if loaded is not None and is_same(file_of(own_name), file):
        return loaded
    _require_free(own_name, file)
    return _execute(file, own_name)


def _require_free(name: str, file: Path) -> None:
    top = name.partition(".")[0]
    if top in sys.modules:
        raise ImportRefused(str(NameTaken(f"{file} and {file_of(top)}, which is loaded already, are both the module {top!r}")))


def _former_name(file: Path) -> str:
    return "stepwell_machine_" + _as_identifier(str(file.with_suffix("")))


def _as_identifier(text: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in text)


def _execute(file: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ImportRefused(f"{file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before it runs: dataclasses and pickle look their module up
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _expect(look: Callable[[], None]) -> None:
    try:
        look()
    except NameTaken as exc:
        raise ImportRefused(str(exc)) from None


def _run(load: Callable[[], ModuleType]) -> ModuleType:
    importlib.invalidate_caches()
    try:
        return load()
    except ImportRefused:
        raise
    except (Exception, SystemExit) as exc:  # the border to the user's code: whatever it does becomes one line
        hint = f"; {_OWN_NAME_HINT}, a package of yours needs another one" if _is_foreign_to_app(exc) else ""
        raise ImportRefused(f"importing it raised {describe(exc)}{hint}") from exc


def _is_foreign_to_app(exc: BaseException) -> bool:
    """Whether a module `app.x` was looked for that is none of Stepwell's: its user has an `app` in mind that is elsewhere."""
    own, _, inner = (exc.name or "").partition(".") if isinstance(exc, ModuleNotFoundError) else ("", "", "")
    first = inner.partition(".")[0]
    return own == "app" and not any((_OWN_PACKAGE / each).exists() for each in (first, f"{first}.py"))
