"""Keeps what the benchmarks print, and puts it into the page of the documentation that shows it."""

import io
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

__all__ = ["PAGE", "recorded"]

PAGE = Path(__file__).parent.parent / "docs" / "performance.md"
_BEGIN, _END = "<!-- figures: begin -->\n", "<!-- figures: end -->\n"


class _Tee(io.TextIOBase):
    """Writes to `shown`, and remembers."""

    def __init__(self, shown: TextIO) -> None:
        self._shown = shown
        self.kept = io.StringIO()

    def write(self, text: str) -> int:
        self._shown.write(text)
        return self.kept.write(text)

    def flush(self) -> None:
        self._shown.flush()


@contextmanager
def recorded(page: Path = PAGE) -> Iterator[None]:
    """Put what is printed meanwhile between the marks in `page`; nothing changes if an error leaves the block."""
    tee, measured_on = _Tee(sys.stdout), _machine()
    with redirect_stdout(tee):
        yield
    before, begin, rest = page.read_text().partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not (begin and end):
        raise ValueError(f"{page} has no place for figures between {_BEGIN.strip()} and {_END.strip()}")
    text = "\n".join(line.rstrip() for line in tee.kept.getvalue().strip().splitlines())
    page.write_text(f"{before}{begin}\n{measured_on}\n\n```text\n{text}\n```\n\n{end}{after}")


def _machine() -> str:
    """Return on what and when the figures were measured."""
    busy = f", load average {os.getloadavg()[0]:.1f} when it began" if hasattr(os, "getloadavg") else ""
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{datetime.now(UTC):%Y-%m-%d}: {os.cpu_count()} cores, {platform.system()}, {python}{busy}."
