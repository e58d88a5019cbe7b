"""From a MACHINE to a Machine: every way to name one, and the one line for everything that can be wrong with it."""

import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.engine.machine import Machine
from app.sessions.loading import MachineLoadError, load_machine, load_machines, parse_spec

BUILDER = """
    from app.engine import ApplicationBuilder, State, action

    @action(reads=[], writes=["n"])
    async def count(state: State) -> State:
        return state.update(n=1)

    def builder() -> ApplicationBuilder:
        return ApplicationBuilder().with_actions(count).with_entrypoint("count")
"""

MACHINE = BUILDER.replace(
    "    def builder", "    from app.engine import machine\n\n    @machine(name={name!r})\n    def {function}"
)

Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Write a file below the current folder, which is a new one; the import path and its modules are put back afterwards."""
    monkeypatch.chdir(tmp_path)
    path, modules = list(sys.path), set(sys.modules)

    def write_file(name: str, text: str) -> Path:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text))
        return file

    yield write_file
    sys.path[:] = path
    for name in sys.modules.keys() - modules:
        del sys.modules[name]


def two_machines(first: str, second: str) -> str:
    return textwrap.dedent(MACHINE.format(name=first, function=first)) + textwrap.dedent(
        f"""
        @machine(name={second!r})
        def {second}() -> ApplicationBuilder:
            "The second one."
            return ApplicationBuilder().with_actions(count).with_entrypoint("count")
        """
    )


def refusal(spec: str) -> str:
    with pytest.raises(MachineLoadError) as caught:
        load_machine(spec)
    assert "\n" not in str(caught.value)
    assert str(caught.value) == f"machine {spec!r}: {caught.value.reason}"
    return caught.value.reason


# ways to name one


@pytest.mark.parametrize(
    ("text", "place", "name"),
    [
        ("bots.py:chat", Path("bots.py"), "chat"),
        ("dir/bots.py", Path("dir/bots.py"), None),
        ("/a/b:c/bots.py", Path("/a/b:c/bots.py"), None),
        ("./bots.py:chat", Path("bots.py"), "chat"),
        ("pkg.mod:chat", "pkg.mod", "chat"),
        ("pkg", "pkg", None),
    ],
)
def test_a_spec_names_a_file_or_a_module_and_perhaps_a_name(text: str, place: Path | str, name: str | None) -> None:
    spec = parse_spec(text)
    assert (spec.place, spec.name) == (place, name)


@pytest.mark.parametrize("text", ["", ":", "bots:", "bots.py:", "a b", "bots.py:1st", "-x", "pkg..mod:chat"])
def test_a_spec_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(MachineLoadError):
        parse_spec(text)


def test_a_function_in_a_file_is_named_after_itself(write: Write) -> None:
    write("bots.py", BUILDER)
    loaded = load_machine("bots.py:builder")
    assert isinstance(loaded, Machine)
    assert loaded.name == "builder"
    assert [action.name for action in loaded.blueprint.graph.actions] == ["count"]


def test_a_file_alone_means_the_one_function_that_returns_a_builder(write: Write) -> None:
    write("bots.py", BUILDER)
    assert load_machine("bots.py").name == "builder"


def test_a_file_alone_prefers_its_machine_over_its_functions(write: Write) -> None:
    write("bots.py", MACHINE.format(name="greeter", function="made") + "\n    def other() -> ApplicationBuilder: ...\n")
    assert load_machine("bots.py").name == "greeter"


def test_a_module_is_found_from_the_current_folder(write: Write) -> None:
    write("zoo/__init__.py", "")
    write("zoo/bots.py", MACHINE.format(name="greeter", function="made"))
    assert load_machine("zoo.bots:made").name == "greeter"
    assert load_machine("zoo.bots").name == "greeter"


def test_a_machine_that_is_only_imported_does_not_count_beside_an_own_one(write: Write) -> None:
    write("far.py", MACHINE.format(name="far", function="far"))
    write("near.py", "from far import far\n" + textwrap.dedent(MACHINE.format(name="near", function="near")))
    write("only.py", "from far import far\n")
    assert load_machine("near.py").name == "near"
    assert load_machine("only.py").name == "far"


def test_a_file_sees_its_neighbours(write: Write) -> None:
    write("bots/words.py", "GREETING = 'hello'\n")
    write("bots/greet.py", "from words import GREETING\n" + textwrap.dedent(BUILDER))
    assert load_machine("bots/greet.py:builder").name == "builder"


def test_a_file_in_a_package_keeps_its_relative_imports(write: Write) -> None:
    write("zoo/__init__.py", "")
    write("zoo/words.py", "GREETING = 'hello'\n")
    write("zoo/greet.py", "from .words import GREETING\n" + textwrap.dedent(BUILDER))
    assert load_machine("zoo/greet.py").factory.__module__ == "zoo.greet"


def test_a_file_named_like_a_module_of_python_is_itself_and_replaces_nothing(write: Write) -> None:
    import json

    write("json.py", BUILDER)
    assert load_machine("json.py:builder").name == "builder"
    assert sys.modules["json"] is json


def test_a_machine_has_its_docstring_as_description_and_a_digest_as_version(write: Write) -> None:
    write("bots.py", two_machines("first", "second"))
    first, second = load_machines(["bots.py:first", "bots.py:second"])
    assert second.description == "The second one."
    assert first.version == second.version
    assert len(first.version) == 12


def test_a_machine_knows_where_another_process_finds_it(write: Write, tmp_path: Path) -> None:
    write("bots.py", BUILDER)
    assert load_machine("bots.py").origin == f"{tmp_path / 'bots.py'}"
    assert load_machine("bots.py:builder").origin == f"{tmp_path / 'bots.py'}:builder"
    assert load_machine("bots:builder").origin == "bots:builder"
    assert load_machine(load_machine("bots.py").origin or "").name == "builder"


# the user's folder and our package


def test_the_folder_of_a_machine_comes_last_on_the_path(write: Write) -> None:
    file = write("bots/greet.py", BUILDER)
    load_machine("bots/greet.py")
    assert sys.path[-1] == str(file.parent)


@pytest.mark.parametrize("rival", ["app/__init__.py", "app/tools.py", "app.py"])
def test_a_users_own_package_called_app_is_one_error_that_says_what_to_rename(rival: str, write: Write, tmp_path: Path) -> None:
    write("bots.py", BUILDER)
    write(rival, "")
    expected = "cannot be imported, because 'app' is the name of Stepwell's own package: rename it, and the imports of it"
    assert refusal("bots.py:builder") == f"{tmp_path / rival.split('/')[0]} {expected}"


def test_a_machine_inside_a_users_package_called_app_is_refused_too(write: Write, tmp_path: Path) -> None:
    write("app/__init__.py", "")
    write("app/bots.py", BUILDER)
    for spec in ("app/bots.py", "app.bots:builder"):
        assert refusal(spec).startswith(f"{tmp_path / 'app'} cannot be imported, because 'app' is the name of Stepwell's")


def test_importing_from_a_users_app_package_elsewhere_is_explained(write: Write) -> None:
    write("bots.py", "import os\nfrom app.tools_of_mine import x\n")
    assert "'app' is the name of Stepwell's own package, a package of yours needs another one" in refusal("bots.py")


def test_a_folder_called_app_without_python_files_is_no_matter(write: Write) -> None:
    write("app/style.css", "")
    write("bots.py", BUILDER)
    assert load_machine("bots.py").name == "builder"


# what can be wrong


def test_a_wrong_path_names_the_nearest_file(write: Write) -> None:
    write("bots/greet.py", BUILDER)
    assert refusal("bots/gret.py") == "there is no file bots/gret.py; did you mean bots/greet.py?"
    assert refusal("bots/greet") == "there is no file bots/greet; did you mean bots/greet.py?"
    assert refusal("nowhere/x.py:y") == "there is no file nowhere/x.py"
    assert refusal("./bots") == "bots is a folder: name a file in it"


def test_a_wrong_module_is_named(write: Write) -> None:
    write("zoo/__init__.py", "")
    assert refusal("zoo.bots:chat") == "there is no module 'zoo.bots'"
    assert refusal("nowhere.bots:chat") == "there is no module 'nowhere'"


def test_a_missing_name_brings_the_nearest_ones(write: Write) -> None:
    write("bots.py", two_machines("greeter", "counter"))
    assert refusal("bots.py:greter") == "bots.py has no 'greter'; did you mean 'greeter'?"
    assert refusal("bots.py:xyz") == "bots.py has no 'xyz'; did you mean 'greeter' or 'counter'?"


def test_a_missing_name_in_a_file_without_machines_says_so(write: Write) -> None:
    write("bots.py", "x = 1\n")
    assert refusal("bots.py:chat") == "bots.py has no 'chat', and nothing else in it makes a machine"


def test_a_file_without_a_machine_says_what_would_be_one(write: Write) -> None:
    write("bots.py", "def helper(x): ...\ndef main(): ...\ndef _private(): ...\ndef number() -> int: ...\n")
    assert refusal("bots.py") == (
        "it has no machine: no @machine, nor a function without arguments that returns an ApplicationBuilder"
    )


def test_a_file_alone_means_its_only_plain_function_where_none_is_annotated(write: Write) -> None:
    write("bots.py", BUILDER.replace(" -> ApplicationBuilder:", ":") + "\n    def helper(x): ...\n")
    assert load_machine("bots.py").name == "builder"


def test_a_file_with_several_machines_names_them(write: Write) -> None:
    write("bots.py", two_machines("greeter", "counter"))
    assert refusal("bots.py") == "it has 2 machines, choose from bots.py:greeter, bots.py:counter"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import os\nimport no_such_library\n", "ModuleNotFoundError: No module named 'no_such_library' ({file}:2)"),
        ("x = 1\n\nraise KeyError('TOKEN')\n", "KeyError: 'TOKEN' ({file}:3)"),
        ("import json\njson.loads('{')\n", "JSONDecodeError: "),
        ("def broken(:\n", "SyntaxError: invalid syntax ({file}:1)"),
        ("raise ValueError('one\\n  two')\n", "ValueError: one two ({file}:1)"),
        ("raise SystemExit('no key')\n", "SystemExit: no key ({file}:1)"),
        (
            "from app.engine import machine\nmachine(ttl_s=-1)(print)\n",
            "MachineRejected: ttl_s must be above 0, or None; it is -1 ({file}:2)",
        ),
        (
            "from app.engine import machine\nmachine(ttl_s=float('inf'))\nmachine(ttl_s=1e12)\n",
            "MachineRejected: ttl_s must be at most 3153600000, or infinity; it is 1000000000000.0 ({file}:3)",
        ),
        ("from json import nothing\n", "ImportError: cannot import name 'nothing' from 'json'"),
    ],
)
def test_an_error_while_importing_is_told_with_its_line(code: str, expected: str, write: Write) -> None:
    file = write("bots.py", code)
    reason = refusal("bots.py")
    assert reason.startswith("importing it raised " + expected.format(file=file))
    assert str(file) in reason


def test_a_failed_import_can_be_tried_again(write: Write) -> None:
    write("json.py", "raise ValueError('first')")
    refusal("json.py")
    write("json.py", BUILDER)
    assert load_machine("json.py").name == "builder"


def test_a_function_that_raises_is_told_with_its_line(write: Write) -> None:
    file = write("bots.py", "def chat():\n    return {}['TOKEN']\n")
    assert refusal("bots.py:chat") == f"making it raised KeyError: 'TOKEN' ({file}:2)"


def test_a_function_that_returns_something_else_says_what(write: Write) -> None:
    write("bots.py", "def chat():\n    return 'hello'\n")
    assert refusal("bots.py:chat") == "it does not validate: machine 'chat' returned str, expected an ApplicationBuilder"


def test_a_function_with_arguments_is_refused(write: Write) -> None:
    write("bots.py", "def chat(model):\n    ...\n")
    assert refusal("bots.py:chat") == "machine function 'chat' must not need arguments"


def test_an_async_function_is_refused(write: Write) -> None:
    write("bots.py", "async def chat():\n    ...\n")
    assert refusal("bots.py:chat").startswith("machine function 'chat' must not be async")


@pytest.mark.parametrize(("code", "kind"), [("chat = 3", "int"), ("chat = builder()", "ApplicationBuilder")])
def test_a_name_that_is_no_function_is_refused(code: str, kind: str, write: Write) -> None:
    write("bots.py", textwrap.dedent(BUILDER) + code)
    assert refusal("bots.py:chat") == (
        f"'chat' is of type {kind}, expected a function without arguments that returns an ApplicationBuilder"
    )


def test_a_machine_that_does_not_validate_says_why(write: Write) -> None:
    write("bots.py", BUILDER.replace('with_entrypoint("count")', 'with_entrypoint("cuont")'))
    reason = refusal("bots.py:builder")
    assert reason.startswith("it does not validate: ")
    assert "cuont" in reason


def test_an_executor_that_there_is_not_is_refused(write: Write) -> None:
    write("bots.py", BUILDER.replace('writes=["n"]', 'writes=["n"], executor="gpu"'))
    assert refusal("bots.py:builder").startswith(
        "it does not validate: action 'count': there is no executor 'gpu' for an async action; there are loop,"
    )
    write(
        "lots.py",
        BUILDER.replace("def builder", "from app.engine import machine\n\n    @machine(executor='gpu')\n    def builder"),
    )
    assert refusal("lots.py").startswith("it does not validate: machine 'builder': there is no executor 'gpu'")


def test_two_machines_of_one_name_are_refused(write: Write) -> None:
    write("one.py", MACHINE.format(name="greeter", function="made"))
    write("two.py", MACHINE.format(name="greeter", function="made"))
    with pytest.raises(MachineLoadError) as caught:
        load_machines(["one.py", "two.py:made"])
    assert str(caught.value) == (
        "machine 'two.py:made': 'one.py' is also named 'greeter': give one of them another name with @machine(name=...)"
    )


@pytest.mark.parametrize("name", ["", "a/b", "a b", "-a", "ä", "x" * 101])
def test_a_machine_name_that_does_not_fit_a_url_is_refused(name: str, write: Write) -> None:
    write(
        "bots.py",
        BUILDER.replace("def builder", f"from app.engine import machine\n\n    @machine(name={name!r})\n    def builder"),
    )
    if name == "":
        assert load_machine("bots.py").name == "builder"
    else:
        assert "must be 1 to 100 letters" in refusal("bots.py")
