"""The page for users of Burr: its one replacement makes the second example of the first, and both run."""

import re
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.documents import commands, machines
from tests.engine.moving import SED, moved
from tests.service_process import ROOT

DOCUMENT = ROOT / "docs" / "moving-from-burr.md"


def load(text: str, name: str) -> Any:
    module = ModuleType(name)
    exec(compile(text, name, "exec"), vars(module))
    return module


@pytest.fixture
def examples() -> dict[str, str]:
    return dict(machines(DOCUMENT))


def test_the_command_is_the_replacement_that_is_tested() -> None:
    (command,) = commands(DOCUMENT)
    assert command.line.split("'")[1] == SED


def test_only_the_imports_differ(examples: dict[str, str]) -> None:
    imports = [line for line in moved(examples["before.py"]).splitlines() if line.startswith("from ")]
    assert imports == [line for line in examples["after.py"].splitlines() if line.startswith("from ")]


def test_a_conversation_that_burr_has_stored_goes_on(
    examples: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tmp_path / "states.db")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Burr's own
        before = load(examples["before.py"], "before")
        before.application("chat", path).run(halt_after=["answer"], inputs={"question": "first?"})
    after = load(moved(examples["before.py"]), "after")
    app = after.application("chat", path)
    action, result, state = app.run(halt_after=["answer"], inputs={"question": "second?"})
    assert (action.name, result) == ("answer", {"text": "You asked: second?"})
    assert state["history"] == ["You asked: first?", "You asked: second?"]
    assert capsys.readouterr().out.splitlines() == ["0 ask", "1 answer", "2 ask", "3 answer"]


def test_the_hosted_example_is_a_machine(examples: dict[str, str]) -> None:
    hosted = load(examples["hosted.py"], "hosted")
    blueprint = hosted.assistant().blueprint()
    assert blueprint.next_action(blueprint.default_state, None) == "ask"


def test_the_table_of_colours_has_eight_rows() -> None:
    text = (ROOT / "docs" / "sync-and-async.md").read_text()
    assert re.findall(r"^\| (\d) \| (\w+) \| `(\w+)\(\)` \| `(\w+)` \|", text, re.MULTILINE) == [
        ("1", "sync", "build", "run"),
        ("2", "sync", "build", "arun"),
        ("3", "async", "build", "run"),
        ("4", "async", "build", "arun"),
        ("5", "async", "abuild", "arun"),
        ("6", "async", "abuild", "run"),
        ("7", "sync", "abuild", "run"),
        ("8", "sync", "abuild", "arun"),
    ]
