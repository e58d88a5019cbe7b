"""A real `stepwell serve` in a process of its own, for tests of what only a process can do: start, be killed, drain."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

__all__ = ["ROOT", "ServiceProcess", "clean_environment", "run_command", "running_service"]

ROOT = Path(__file__).parent.parent
COMMAND = Path(sys.executable).with_name("stepwell")
START_LIMIT_S = 100.0


def clean_environment(**variables: str) -> dict[str, str]:
    """The environment of this process without STEPWELL_ variables, and with `variables`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("STEPWELL_")}
    return {**kept, **variables}


def run_command(*arguments: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `stepwell` to its end."""
    return subprocess.run(
        [COMMAND, *arguments], cwd=cwd, env=clean_environment(**variables), capture_output=True, text=True, timeout=START_LIMIT_S
    )


class ServiceProcess:
    """A service that has been started, and what it prints."""

    def __init__(self, process: subprocess.Popen[str], sign: str) -> None:
        self.process = process
        self._sign = sign
        self.output: list[str] = []
        self.errors: list[str] = []
        self._ready = threading.Event()
        self._has_shown_the_sign = False
        self._readers = [
            threading.Thread(target=self._read, args=(process.stdout, self.output), daemon=True),
            threading.Thread(target=self._read, args=(process.stderr, self.errors), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    @property
    def url(self) -> str:
        """The address that the first line names."""
        found = re.search(r"http://\S+:\d+", self.output[0])
        assert found, self.output
        return found[0]

    @property
    def curl(self) -> str:
        return next(line.strip() for line in self.output if line.strip().startswith("curl "))

    def wait_until_ready(self) -> None:
        """Return when the first lines are printed; an AssertionError says what was printed instead."""
        assert self._ready.wait(START_LIMIT_S), self.text()
        assert self._has_shown_the_sign, self.text()

    def text(self) -> str:
        return "".join([*self.output, *self.errors])

    def kill(self) -> None:
        """End the process with SIGKILL: it gets no chance to put anything in order."""
        self.process.kill()
        self.process.wait()

    def stop(self, number: signal.Signals = signal.SIGTERM, timeout_s: float = 60.0) -> int:
        """Send a signal and return the exit code when the process has ended and all of its output is read."""
        self.process.send_signal(number)
        return self.wait(timeout_s)

    def wait(self, timeout_s: float = 60.0) -> int:
        """Return the exit code when the process has ended by itself and all of its output is read."""
        code = self.process.wait(timeout_s)
        self.close()
        return code

    def close(self) -> None:
        """Read what is left of the output of an ended process."""
        for reader in self._readers:
            reader.join(START_LIMIT_S)

    def _read(self, pipe: IO[str], lines: list[str]) -> None:
        with pipe:
            for line in pipe:
                lines.append(line)
                if self._sign in line:
                    self._has_shown_the_sign = True
                    self._ready.set()
        self._ready.set()  # the process has closed its end: nothing more will come


@contextlib.contextmanager
def running_service(
    *arguments: str,
    cwd: Path,
    command: tuple[str, ...] | None = None,
    variables: Mapping[str, str] | None = None,
    sign: str = "  curl ",
) -> Iterator[ServiceProcess]:
    """Start `stepwell serve ARGUMENTS` on a port that the system chooses, or `command`, and end it afterwards.

    It serves when it has printed a line that has `sign` in it.
    """
    process = subprocess.Popen(
        command or (str(COMMAND), "serve", "--port", "0", *arguments),
        cwd=cwd,
        env=clean_environment(**(variables or {})),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    service = ServiceProcess(process, sign)
    try:
        service.wait_until_ready()
        yield service
    finally:
        if process.poll() is None:
            service.kill()
        service.close()
