"""What ships around the code: locks that match the project, an image and a compose file that name only what exists."""

import json
import re
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from app.settings import Settings
from tests.service_process import ROOT, clean_environment, running_service

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE = (ROOT / "docker-compose.yml").read_text()
VARIABLES = {f"STEPWELL_{name.upper()}" for name in Settings.model_fields}


def locked(name: str) -> dict[str, str]:
    """The pinned version of each distribution in a lock; every one must have a hash."""
    text = (ROOT / name).read_text()
    entries = re.findall(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)(?P<rest>(?:.*\\\n)(?:    --hash=.*\n)+)", text, re.MULTILINE)
    pins = re.findall(r"^[A-Za-z0-9._-]+(?:\[[^]]*\])?==", text, re.MULTILINE)
    assert len(entries) == len(pins), "an entry has no hash"
    return {canonicalize_name(found): version for found, version, _ in entries}


def wanted(*extras: str) -> list[Requirement]:
    lines = list(PROJECT["dependencies"])
    for extra in extras:
        lines += PROJECT["optional-dependencies"][extra]
    return [found for found in map(Requirement, lines) if found.name != PROJECT["name"]]


@pytest.mark.parametrize(
    ("lock", "extras"),
    [
        ("requirements.lock", ("build",)),
        ("requirements-demo.lock", ("build", "demo")),
        ("requirements-dev.lock", ("build", "demo", "dev")),
    ],
)
def test_a_lock_pins_every_dependency_within_its_bounds(lock: str, extras: tuple[str, ...]) -> None:
    pins = locked(lock)
    for requirement in wanted(*extras):
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), requirement


def test_both_locks_agree() -> None:
    service, development = locked("requirements.lock"), locked("requirements-dev.lock")
    assert {name: development[name] for name in service} == service


def test_the_image_copies_only_what_exists_and_what_its_context_lets_through() -> None:
    let_through = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    sources = [
        source.rstrip("/")
        for arguments in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
        for source in arguments.split()[:-1]
    ]
    assert sources
    assert [source for source in sources if not (ROOT / source).exists() or source not in let_through] == []


def test_image_and_compose_file_set_only_variables_that_are_settings() -> None:
    used = set(re.findall(r"STEPWELL_[A-Z_]+", DOCKERFILE + COMPOSE))
    assert used - VARIABLES == set()


def test_the_image_starts_the_command_as_a_user_without_rights_and_checks_its_health() -> None:
    assert re.search(r"^USER (?!root)\w+$", DOCKERFILE, re.MULTILINE)
    assert "STOPSIGNAL SIGTERM" in DOCKERFILE
    assert "EXPOSE 8000" in DOCKERFILE
    assert "/healthz" in DOCKERFILE.split("HEALTHCHECK")[1].split("\n")[1]
    assert json.loads(DOCKERFILE.split("ENTRYPOINT ")[1].split("\n")[0]) == ["stepwell"]


def test_the_health_check_of_the_image_tells_a_service_from_none(tmp_path: Path) -> None:
    check = json.loads(re.search(r"HEALTHCHECK[^\n]*\n\s+CMD (\[.*\])\n", DOCKERFILE)[1])  # type: ignore[index]  # it is there
    assert check[0] == "python"

    def healthy(port: str) -> bool:
        command = [sys.executable, *check[1:]]
        return subprocess.run(command, env=clean_environment(STEPWELL_PORT=port), capture_output=True, timeout=30).returncode == 0

    with running_service("--database-url", "memory://", str(ROOT / "examples" / "counter.py"), cwd=tmp_path) as started:
        port = started.url.rpartition(":")[2]
        assert healthy(port)
    assert not healthy(port)


def test_the_image_hosts_machines_that_exist() -> None:
    machines = re.search(r'STEPWELL_MACHINES="([^"]+)"', DOCKERFILE)
    assert machines
    assert [name for name in machines[1].split() if not (ROOT / name).is_file()] == []


def test_postgres_keeps_its_data_and_tells_its_health() -> None:
    assert "healthcheck:" in COMPOSE
    assert "postgres-data:/var/lib/postgresql #" in COMPOSE


def test_ci_runs_make_test_and_stops_at_the_first_failure() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & stat.S_IXUSR
    text = script.read_text()
    assert "set -euo pipefail" in text
    assert text.rstrip().endswith("make test")


def test_make_serve_starts_the_machines_of_the_image() -> None:
    examples = re.search(r"^EXAMPLES := (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    machines = re.search(r'STEPWELL_MACHINES="([^"]+)"', DOCKERFILE)
    assert examples
    assert machines
    assert examples[1] == machines[1]
    assert all(Path(ROOT, name).is_file() for name in examples[1].split())


def test_make_leaves_nothing_of_an_environment_that_could_not_be_made(tmp_path: Path) -> None:
    without_pip = tmp_path / "python"  # as Debian's without the package python3-venv: it complains when half is done
    without_pip.write_text('#!/bin/sh\nmkdir -p .venv/bin && touch .venv/bin/python && echo "no ensurepip" >&2 && exit 1\n')
    without_pip.chmod(0o755)
    command = ["make", "-f", ROOT / "Makefile", ".venv/bin/python", f"PYTHON={without_pip}"]
    for _again in range(2):
        made = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert made.returncode != 0
        assert "no ensurepip" in made.stderr
