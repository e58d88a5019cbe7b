"""The documents against the code: what they list is all there is, and what they link to is there."""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from app.routes.errors import TABLE
from app.settings import Settings
from tests.documents import commands, example_service, is_as_told, machines, perform
from tests.service_process import ROOT, ServiceProcess, run_command, running_service

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


@pytest.fixture
def service(tmp_path: Path) -> Iterator[ServiceProcess]:
    with example_service(tmp_path) as started:
        yield started


def test_the_first_lines_are_those_that_the_readme_shows(service: ServiceProcess) -> None:
    shown = re.findall(r"^```text\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    found = re.sub(r"try-\w{6}", "try-1f031d", "".join(service.output).replace(service.url, "http://127.0.0.1:8000"))
    assert shown == [found]


@pytest.mark.parametrize("document", [ROOT / "README.md", ROOT / "docs" / "http.md"], ids=lambda path: path.name)
def test_curl_lines_give_what_the_document_says_they_give(document: Path, service: ServiceProcess) -> None:
    lines = [each for each in commands(document) if each.line.startswith("curl ")]
    assert lines
    for command in lines:
        found = perform(command.line, service.url)
        assert is_as_told(command.output, found), f"{command.line}\ngave\n{found}\nand not\n{command.output}"


@pytest.mark.parametrize(
    "document", [ROOT / "README.md", ROOT / "docs" / "machines.md", ROOT / "docs" / "reliability.md"], ids=lambda path: path.name
)
def test_machines_in_the_document_can_be_served_and_run(document: Path, tmp_path: Path) -> None:
    files = dict(machines(document))
    assert files
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with running_service("--database-url", "memory://", *files, cwd=tmp_path) as started:
        hosted = httpx.get(f"{started.url}/v1/machines").json()["items"]
        assert len(hosted) == len(files)
        create, _, step = started.curl.split(" && ")
        perform(create, "")
        assert '"seq":0' in perform(step, "")


def test_refusals_in_the_document_are_those_that_are_printed(tmp_path: Path) -> None:
    document = ROOT / "docs" / "machines.md"
    for name, text in machines(document):
        (tmp_path / name).write_text(text)
    (greter,) = [each for each in commands(document) if "greter" in each.line]
    ended = run_command(*greter.line.split()[1:], cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (2, greter.output)


def test_every_problem_is_in_the_table_with_its_status_and_title() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| (\d+) \| (.+) \|$", (ROOT / "docs" / "http.md").read_text(), re.MULTILINE)
    told = {(slug, int(status), title) for slug, status, title in rows}
    assert {(row.slug, row.status, row.title) for row in TABLE.values()} <= told


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    pages = [path.name for path in (ROOT / "docs").glob("*.md") if path.name != "README.md"]
    assert [name for name in pages if f"]({name})" not in index] == []
