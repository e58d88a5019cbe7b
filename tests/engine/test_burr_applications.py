"""Three applications for Burr, as its documentation teaches to write them, do the same here after their imports are changed."""

import logging
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.engine.moving import moved

FOLDER = Path(__file__).parent / "burr_applications"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py"))


def model(prompt: str) -> str:
    """Stands for a language model: always the same answer to the same question."""
    words = prompt.replace(":", " ").replace("|", " ").split()
    return " ".join(reversed(words)).lower()


def load(name: str, text: str) -> Any:
    module = ModuleType(name)
    sys.modules[name] = module  # pydantic looks annotations up in the module of a class
    exec(compile(text, name, "exec"), vars(module))
    return module


@pytest.fixture
def quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)  # Burr prints states
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logging.disable(logging.NOTSET)


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("name", NAMES)
def test_an_application_for_burr_does_the_same_here(name: str, tmp_path: Path) -> None:
    text = (FOLDER / f"{name}.py").read_text()
    assert text.count("\nfrom burr") >= 3
    assert "burr" not in re.sub(r'"""[\s\S]*?"""', "", moved(text), count=1)
    theirs = load(f"{name}_for_burr", text).play(model, str(tmp_path / "theirs.db"))
    ours = load(f"{name}_moved", moved(text)).play(model, str(tmp_path / "ours.db"))
    assert ours == theirs


@pytest.mark.parametrize("name", NAMES)
def test_an_application_for_burr_runs_here_without_a_warning_that_it_did_not_earn(name: str, tmp_path: Path) -> None:
    module = load(f"{name}_alone", moved((FOLDER / f"{name}.py").read_text()))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        module.play(model, str(tmp_path / "ours.db"))
    assert [str(each.message) for each in caught] == []
