"""No value ends the process; what was accepted is shown again by a new one. More examples: `python -m tests.fuzz_values`."""

from pathlib import Path

from tests.fuzz_values.fuzzing import fuzz


def test_no_value_ends_the_process_and_what_was_accepted_is_shown_again_by_a_new_one(tmp_path: Path) -> None:
    found = fuzz(tmp_path, 80)
    assert found.accepted
    assert found.refused
