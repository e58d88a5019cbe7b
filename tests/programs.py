"""Debian's nginx, PgBouncer and curl for tests: those of the system, or else out of their packages, in the virtual environment.

`python -m tests.programs` fetches what is missing. It needs apt, but no rights: nothing is installed, no service is started.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Program", "ProgramMissing", "program"]

NAMES = ("nginx", "pgbouncer", "curl")  # of a package and of the program in it
FETCHED = Path(sys.prefix) / "debian"
SYSTEM_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])


class ProgramMissing(Exception):
    """A program that tests need is neither on the system nor can it be fetched; the message says what to install."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"the tests need {name}: install it, as in `apt-get install {name}` ({reason})")


@dataclass(frozen=True, slots=True)
class Program:
    """Something to run, and what its environment needs for that."""

    path: str
    variables: dict[str, str]


def program(name: str) -> Program:
    """Return where `name` is. Raises ProgramMissing."""
    if found := shutil.which(name, path=SYSTEM_PATH):
        return Program(found, {})
    if fetched := _fetched(name):
        folders = sorted({str(each.parent) for each in FETCHED.rglob("lib*.so.*")})
        return Program(str(fetched), {"LD_LIBRARY_PATH": os.pathsep.join(folders)})
    raise ProgramMissing(name, "or try `python -m tests.programs`, which fetches it for these tests alone")


def _fetched(name: str) -> Path | None:
    return next((each for folder in ("sbin", "bin") if (each := FETCHED / "usr" / folder / name).exists()), None)


def fetch(name: str) -> None:
    """Unpack the package `name`, and the libraries it needs that the system lacks. Raises ProgramMissing."""
    if not all(map(shutil.which, ("apt-get", "apt-cache", "dpkg", "ldd"))):
        raise ProgramMissing(name, "there is no apt here to fetch it with")
    with tempfile.TemporaryDirectory(prefix="stepwell-apt-") as folder:
        apt = _Apt(Path(folder), name)
        apt.run("apt-get", "-qq", "update")
        apt.unpack(name)
        if lacking := _missing_libraries(program(name)):
            for library in apt.libraries(name):
                apt.unpack(library)
            lacking = _missing_libraries(program(name))
    if lacking:
        Path(program(name).path).unlink()
        raise ProgramMissing(name, f"its package came without {', '.join(lacking)}")


def _missing_libraries(found: Program) -> list[str]:
    listed = subprocess.run(["ldd", found.path], env={**os.environ, **found.variables}, capture_output=True, text=True)
    return re.findall(r"^\s*(\S+) => not found", listed.stdout, re.MULTILINE)


class _Apt:
    """apt with lists of packages of its own: those of the system may be missing, and are for root to refresh."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = name
        for needed in ("lists/partial", "cache/archives/partial"):
            (folder / needed).mkdir(parents=True)
        self._options = (
            *("-o", f"Dir::State::Lists={folder}/lists", "-o", f"Dir::Cache={folder}/cache"),
            *("-o", "Debug::NoLocking=true", "-o", "APT::Sandbox::User=", "-o", "Acquire::Retries=3"),
        )

    def run(self, command: str, *arguments: str) -> str:
        done = subprocess.run([command, *self._options, *arguments], cwd=self._folder, capture_output=True, text=True)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise ProgramMissing(self._name, f"{command} failed: {last}")
        return done.stdout

    def libraries(self, package: str) -> list[str]:
        """The shared libraries that `package` depends on, but for the C library: that goes with the system's loader."""
        depends = self.run("apt-cache", "depends", "--important", package)
        return re.findall(r"^ {2}(?:Pre)?Depends: (lib(?!c6)\S+)$", depends, re.MULTILINE)

    def unpack(self, package: str) -> None:
        self.run("apt-get", "-qq", "download", package)
        archive = next(self._folder.glob(f"{package}_*.deb"))
        subprocess.run(["dpkg", "-x", archive, FETCHED], check=True)


def main() -> None:
    """Fetch each program that is not there; end with 1 and a line on stderr if that cannot be."""
    for name in NAMES:
        try:
            program(name)
        except ProgramMissing:
            try:
                fetch(name)
            except ProgramMissing as exc:
                sys.exit(str(exc))


if __name__ == "__main__":
    main()
