"""The table of Burr's names is what the two packages say, and nothing in it differs without a reason."""

from pathlib import Path

import app.engine
from scripts.burr_parity import DOCUMENT, compare


def test_the_table_is_up_to_date_and_every_difference_has_a_reason() -> None:
    text, unexplained, stale = compare()
    assert unexplained == []
    assert stale == []
    assert Path(DOCUMENT).read_text(encoding="utf-8") == text, "run python -m scripts.burr_parity"


def test_every_exported_name_is_there() -> None:
    assert [name for name in app.engine.__all__ if not hasattr(app.engine, name)] == []
