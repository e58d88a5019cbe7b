"""A real `stepwell serve`, in a process of its own, on a free port, with a database that goes with it."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["ServiceFailed", "running_service"]

COMMAND = Path(sys.executable).with_name("stepwell")
MACHINE = Path(__file__).parent.parent / "chess_game.py"


class ServiceFailed(Exception):
    """The service did not start; the message is what it said."""


@contextmanager
def running_service() -> Iterator[str]:
    """Start the service and yield its address; stop it, and forget what it stored, at the end. Raises ServiceFailed."""
    with tempfile.TemporaryDirectory(prefix="stepwell-demo-", ignore_cleanup_errors=True) as folder:
        log = Path(folder) / "service.log"
        command = [str(COMMAND), "serve", str(MACHINE), "--port", "0"]
        command += ["--database-url", f"sqlite:///{folder}/demo.db"]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("STEPWELL_")}
        with (
            log.open("w") as errors,
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=environment, text=True) as process,  # noqa: S603 - ours
        ):
            try:
                first_line = process.stdout.readline() if process.stdout else ""
                found = re.search(r"http://[^\s/]+:\d+", first_line)
                if found is None:
                    process.wait()
                    raise ServiceFailed(log.read_text().strip() or f"the service ended with code {process.returncode}")
                yield found[0]
            finally:
                process.terminate()
