"""The examples in the documents, cut out and carried out: `console` blocks with curl lines, `python` blocks with machines.

`python -m tests.documents FILE …` writes what the curl lines print now into the documents, where it is not what they say.
"""

import re
import shlex
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.service_process import ROOT, ServiceProcess, running_service

__all__ = ["Command", "commands", "example_service", "is_as_told", "machines", "perform"]

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_VOLATILE = (
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}"), "<uuid>"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"), "<time>"),
    (re.compile(r"^id: \d{16}$", re.MULTILINE), "id: <id>"),
)


@dataclass(frozen=True, slots=True)
class Command:
    """A line after `$`, and what the document says it prints."""

    line: str
    output: str


def commands(document: Path) -> Iterator[Command]:
    """Yield every command of the `console` blocks."""
    for kind, block in _BLOCK.findall(document.read_text()):
        if kind == "console":
            for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
                line, _, output = part.partition("\n")
                yield Command(line, output)


def machines(document: Path) -> Iterator[tuple[str, str]]:
    """Yield the file name and the text of every `python` block that begins with one as a comment."""
    for kind, block in _BLOCK.findall(document.read_text()):
        name = re.match(r"# (\w+\.py)\n", block)
        if kind == "python" and name:
            yield name[1], block


def perform(line: str, address: str) -> str:
    """Return what a curl line prints, with `address` in the place of localhost:8000."""
    program, *words = shlex.split(line)
    assert program == "curl", line
    url, method, headers, body = "", None, {}, None
    rest = iter(words)
    for word in rest:
        match word:
            case "-s" | "-sN" | "-sg":
                pass
            case "-H":
                name, _, value = next(rest).partition(": ")
                headers[name] = value
            case "-d":
                body = next(rest)
            case "-X":
                method = next(rest)
            case _:
                url = word.replace("localhost:8000", address)
    answer = httpx.request(method or ("GET" if body is None else "POST"), url, content=body, headers=headers, timeout=30)
    return answer.text


def example_service(folder: Path) -> AbstractContextManager[ServiceProcess]:
    """What `make serve` starts, on a database of its own in `folder` and without a key."""
    files = [str(ROOT / "examples" / name) for name in ("counter.py", "approval.py", "chat.py")]
    return running_service(*files, cwd=folder, variables={"OPENAI_API_KEY": ""})


def is_as_told(told: str, found: str) -> bool:
    """Whether `found` is what the document says, in which a line of dots stands for any lines."""
    pattern = "\n".join(".*" if line == "..." else re.escape(line) for line in masked(told).split("\n"))
    return re.fullmatch(pattern, masked(found), re.DOTALL) is not None


def masked(text: str) -> str:
    """Return `text` with what differs from run to run made the same, and blank lines at its end left out."""
    for pattern, name in _VOLATILE:
        text = pattern.sub(name, text)
    return text.strip()


def refill(document: Path) -> None:
    """Put what the curl lines print now into `document`, where it says something else."""
    text = document.read_text()
    with tempfile.TemporaryDirectory() as folder, example_service(Path(folder)) as service:
        for command in commands(document):
            if command.line.startswith("curl "):
                found = perform(command.line, service.url)
                if not is_as_told(command.output, found):
                    text = text.replace(f"$ {command.line}\n{command.output}", f"$ {command.line}\n{found.rstrip()}\n", 1)
    document.write_text(text)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        refill(Path(name))
