"""What the benchmarks print goes into the page, between its marks and nowhere else."""

from pathlib import Path

import pytest

from benchmarks.recording import PAGE, recorded

MARKED = "above\n<!-- figures: begin -->\nold\n<!-- figures: end -->\nbelow\n"


def test_figures_replace_the_old_ones_and_are_still_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.md"
    page.write_text(MARKED)
    for figure in ("first", "second"):
        with recorded(page):
            print(f"{figure} 42 µs   ")
    text = page.read_text()
    assert text.startswith("above\n<!-- figures: begin -->\n")
    assert text.endswith("```text\nsecond 42 µs\n```\n\n<!-- figures: end -->\nbelow\n")
    assert "old" not in text
    assert "first" not in text
    assert "second 42 µs" in capsys.readouterr().out


def test_a_run_that_fails_leaves_the_page_as_it_was(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(MARKED)

    def fail() -> None:
        print("half of it")
        raise RuntimeError

    with pytest.raises(RuntimeError), recorded(page):
        fail()
    assert page.read_text() == MARKED


def test_the_page_of_the_documentation_has_a_place_for_figures() -> None:
    text = PAGE.read_text()
    assert text.count("<!-- figures: begin -->\n") == text.count("<!-- figures: end -->\n") == 1
