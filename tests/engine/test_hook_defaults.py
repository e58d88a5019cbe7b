"""The ready-made hooks, and the loader of test cases, do what Burr's do."""

import json
import pathlib
import time
from typing import Any

import pytest
from burr import testing as burr_testing
from engines import OURS, play

from app.engine import SlowDownHook, StateAndResultsFullLogger, load_test_cases, testing

pytest_plugins = ["pytester"]


def counting(e: Any, hook: Any) -> Any:
    @e.action(reads=["n"], writes=["n"])
    def count(state: Any) -> Any:
        if state["n"] == 2:
            raise ValueError("no further")
        return {"was": state["n"]}, state.update(n=state["n"] + 1)

    return (
        e.ApplicationBuilder()
        .with_actions(count)
        .with_transitions(("count", "count"))
        .with_entrypoint("count")
        .with_state(n=0)
        .with_hooks(hook)
        .build()
    )


def test_every_step_is_a_line_with_the_fields_that_burr_writes(tmp_path: pathlib.Path) -> None:
    def scenario(e: Any) -> Any:
        path = tmp_path / f"{e.label}.jsonl"
        logger = e.StateAndResultsFullLogger(str(path))
        with pytest.raises(ValueError, match="no further"):
            counting(e, logger).run(halt_after=[])
        logger.f.close()
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        for line in lines:
            line["state"] = {key: value for key, value in line["state"].items() if not key.startswith("__")}
            assert line.pop("start_time") <= line.pop("end_time")
        return lines

    ours, theirs = play(scenario)
    assert ours == theirs
    assert len(ours) == 3


def test_the_log_is_flushed_after_every_step_and_appended_to_unless_told_otherwise(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "log.jsonl"
    for mode, lines in (("append", 1), ("append", 2), ("w", 1)):
        logger = StateAndResultsFullLogger(str(path), mode=mode)  # type: ignore[arg-type]  # the two that there are
        counting(OURS, logger).step()
        assert len(path.read_text().splitlines()) == lines
        logger.close()


def test_a_log_that_is_not_jsonl_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must end with \.jsonl"):
        StateAndResultsFullLogger("log.txt")


def test_what_json_does_not_know_is_written_as_text(tmp_path: pathlib.Path) -> None:
    assert json.loads(OURS.safe_json({"path": pathlib.Path("a")})) == {"path": "a"}


def test_slowing_down_takes_time_before_and_after_a_step() -> None:
    app = counting(OURS, SlowDownHook(pre_sleep_time=0.02, post_sleep_time=0.03))
    began = time.monotonic()
    app.step()
    assert time.monotonic() - began >= 0.05


CASES = [
    {"action": "act", "name": "one", "input_state": {"n": 1}, "expected_state": {"n": 2}},
    {"input_state": {"n": 2}, "expected_state": {"n": 3}},
]


def test_cases_are_loaded_as_burr_loads_them(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "cases.json"
    path.write_text(json.dumps(CASES))
    assert load_test_cases(str(path)) == burr_testing.load_test_cases(str(path))
    assert load_test_cases(str(path))[1] == ["act-one", "ACTION_MISSING-NAME_MISSING"]


@pytest.mark.parametrize("module", [testing.__name__, burr_testing.__name__])
def test_a_marked_test_runs_once_for_every_case(pytester: pytest.Pytester, module: str) -> None:
    pytester.makeini("[pytest]\nmarkers = file_name: the cases\n")
    cases = pytester.path / "cases.json"
    cases.write_text(json.dumps(CASES))
    pytester.makepyfile(
        f"""
        import pytest
        from {module} import pytest_generate_tests

        @pytest.mark.file_name({str(cases)!r})
        def test_grows(input_state, expected_state):
            assert input_state["n"] + 1 == expected_state["n"]

        def test_without_cases():
            pass
        """
    )
    pytester.runpytest_inprocess("-p", "no:cacheprovider", "-p", "no:asyncio").assert_outcomes(passed=3)


def test_a_test_without_any_case_is_an_error(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        from app.engine.testing import pytest_generate_tests

        def test_grows(input_state, expected_state):
            pass
        """
    )
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "-p", "no:asyncio")
    result.stdout.fnmatch_lines(["*test 'test_grows' has no cases: no file is marked*"])
