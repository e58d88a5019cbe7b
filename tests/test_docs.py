"""The documents against the code: what they list is all there is, and what they link to is there."""

import re
from pathlib import Path

import pytest

from app.settings import Settings
from tests.service_process import ROOT

DOCUMENTS = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_every_setting_is_in_the_table_with_its_default_and_its_meaning() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text()
    rows = dict(re.findall(r"^\| (`STEPWELL_\w+`) \| [^|]*(\| .*) \|$", text, re.MULTILINE))
    expected = {}
    for name, field in Settings.model_fields.items():
        default = "none" if field.default in ((), "") else f"`{field.default}`"
        expected[f"`STEPWELL_{name.upper()}`"] = f"| {default} | {field.description}"
    assert rows == expected


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files_that_are_there(document: Path) -> None:
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)(?:#[^)]*)?\)", document.read_text())
    assert [target for target in targets if not (document.parent / target).exists()] == []


def test_every_decision_is_in_the_index() -> None:
    folder = ROOT / "docs" / "adr"
    index = (folder / "README.md").read_text()
    decisions = sorted(path.name for path in folder.glob("[0-9]*.md"))
    assert [name for name in decisions if f"]({name})" not in index] == []
    assert [name for name in decisions if not (folder / name).read_text().startswith(f"# {int(name[:4])}. ")] == []
    for name in decisions:
        text = (folder / name).read_text()
        assert all(f"**{part}.**" in text for part in ("Context", "Decision", "Consequences")), name
