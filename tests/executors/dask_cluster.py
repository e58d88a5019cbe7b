"""A Dask scheduler and its workers as real processes, which a test may kill."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import distributed


class DaskCluster:
    """One scheduler and some workers of one thread each, all there when `start` returns.

    `start` after `kill` takes the same address.
    """

    def __init__(self, folder: Path, workers: int = 2) -> None:
        self._folder = folder
        self._workers = workers
        self._processes: list[subprocess.Popen[bytes]] = []
        self.address = ""

    def start(self) -> None:
        contact = self._folder / "scheduler.json"
        contact.unlink(missing_ok=True)
        port = self.address.rpartition(":")[2] or "0"
        self._run(
            "dask_scheduler", "--port", port, "--host", "127.0.0.1", "--dashboard-address", ":0", "--scheduler-file", str(contact)
        )
        self.address = _address_in(contact)
        self.hire(self._workers)

    def hire(self, workers: int) -> None:
        """Start so many more workers, and wait for them."""
        for _ in range(workers):
            self._run("dask_worker", self.address, "--nthreads", "1", "--no-dashboard", "--no-nanny", "--host", "127.0.0.1")
        if workers:
            with distributed.Client(self.address, timeout=60, set_as_default=False) as client:
                client.wait_for_workers(len(self._processes) - 1, timeout=60)

    def wanted(self) -> int:
        """How many workers an adaptive cluster would have now."""
        with distributed.Client(self.address, timeout=60, set_as_default=False) as client:
            return int(client.sync(client.scheduler.adaptive_target))

    def dismiss(self) -> None:
        """kill -9 all workers, and leave the scheduler."""
        for worker in self._processes[1:]:
            worker.kill()
            worker.wait()
        del self._processes[1:]

    def kill(self) -> None:
        """kill -9, the scheduler first."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()
        self._processes.clear()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        self.kill()

    def _run(self, module: str, *arguments: str) -> None:
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "DASK_LOGGING__DISTRIBUTED": "error"}
        command = [sys.executable, "-m", f"distributed.cli.{module}", *arguments]
        self._processes.append(subprocess.Popen(command, env=environment, cwd=self._folder))


def _address_in(contact: Path) -> str:
    deadline_s = time.monotonic() + 60
    while time.monotonic() < deadline_s:
        if contact.exists():
            try:
                address: str = json.loads(contact.read_text())["address"]
            except ValueError:  # half written
                continue
            return address
        time.sleep(0.02)
    raise TimeoutError("the Dask scheduler did not start")
