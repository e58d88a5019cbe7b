"""For tests of actions: cases kept in a JSON file, one test per case.

A case is an object with `action`, `name`, `input_state` and `expected_state`. Import `pytest_generate_tests` into a test module
or a `conftest.py`, register the mark `file_name`, and mark a test that takes `input_state` and `expected_state` with the file.
"""

import json
from typing import Any

__all__ = ["load_test_cases", "pytest_generate_tests"]


def load_test_cases(file_name: str) -> tuple[list[tuple[Any, Any]], list[str]]:
    """Return the cases in a file, as pairs of input and expected state, and their ids, `action-name`."""
    with open(file_name, encoding="utf-8") as file:
        cases = json.load(file)
    pairs = [(case.get("input_state"), case.get("expected_state")) for case in cases]
    return pairs, [f"{case.get('action', 'ACTION_MISSING')}-{case.get('name', 'NAME_MISSING')}" for case in cases]


def pytest_generate_tests(metafunc: Any) -> None:
    """Make one test of every case in the files of the mark `file_name`. Raises ValueError if they hold none."""
    if not {"input_state", "expected_state"} <= set(metafunc.fixturenames):
        return
    files = [name for mark in metafunc.definition.own_markers if mark.name == "file_name" for name in mark.args]
    loaded = [load_test_cases(name) for name in files]
    cases = [case for pairs, _ in loaded for case in pairs]
    if not cases:
        raise ValueError(f"test {metafunc.definition.originalname!r} has no cases: {', '.join(files) or 'no file is marked'}")
    metafunc.parametrize("input_state,expected_state", cases, ids=[name for _, names in loaded for name in names])
