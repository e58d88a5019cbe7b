"""Worker processes as their owner sees them: started, spoken to, killed, and how they ended.

`fork` starts them from a warm, single-threaded server process in a few milliseconds; `spawn` starts a fresh interpreter
each time, for code that does not stand a fork. Neither imports the program's main module again.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from multiprocessing import Pipe, connection
from multiprocessing.connection import Connection
from typing import Any, Protocol

from app.executors.errors import WorkerDied

__all__ = ["ForkingLauncher", "Launcher", "SpawningLauncher", "WorkerProcess"]

BOOT = """\
import importlib, json, sys
path, module, fd = json.loads(sys.argv[1])
sys.path[:] = path
importlib.import_module(module).main(fd)
"""


class WorkerProcess:
    """One worker and the connection to it. One thread at a time uses it, but any thread may kill it."""

    def __init__(self, pid: int, conn: "Connection[Any, Any]", launcher: "Launcher") -> None:
        self.pid = pid
        self.calls = 0
        self._connection = conn
        self._launcher = launcher
        self._pidfd = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else None
        self._exit_code: int | None = None
        self._ended = False
        self._lock = threading.Lock()  # or a kill could hit whoever has the number next

    def send(self, message: bytes) -> None:
        """Raises OSError if the worker is gone."""
        self._connection.send_bytes(message)

    def receive(self) -> bytes:
        """Return the next message. Raises WorkerDied if the worker ends first."""
        ready = connection.wait([self._connection, *([] if self._pidfd is None else [self._pidfd])])
        try:
            if self._connection in ready or self._connection.poll():
                return self._connection.recv_bytes()
        except (EOFError, OSError):
            pass
        code = self.end()
        raise WorkerDied(f"the worker process {_how(code)} before it answered", exit_code=code)

    def is_gone(self) -> bool:
        """Whether an idle worker has ended. Nothing is expected from it, so anything that can be read is its end."""
        return self._ended or self._connection.poll()

    def kill(self) -> None:
        """End it now, whatever it does. Does not wait, and may be called by any thread."""
        with self._lock, suppress(ProcessLookupError):
            if self._ended:
                return
            if self._pidfd is not None:
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            else:
                os.kill(self.pid, signal.SIGKILL)

    def end(self) -> int | None:
        """Kill it if need be, wait for it, free what it held; return its exit code, None if nobody knows."""
        self.kill()
        with self._lock:
            if not self._ended:
                self._ended = True
                self._exit_code = self._launcher.reap(self.pid)
                self._connection.close()
                if self._pidfd is not None:
                    os.close(self._pidfd)
        return self._exit_code


class Launcher(Protocol):
    """A way to start worker processes. Its methods block, and may be called by any thread."""

    def launch(self) -> WorkerProcess: ...

    def reap(self, pid: int) -> int | None:
        """Wait for a worker that has ended; return its exit code, negative for a signal."""
        ...

    def close(self) -> None: ...


class ForkingLauncher:
    """Workers forked from one server process, which is started for the first of them, and again if it died."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._server: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._closed = False

    def launch(self) -> WorkerProcess:
        ours, theirs = Pipe()
        with theirs:
            try:
                pid = self._request("fork", theirs.fileno())
            except (OSError, EOFError):
                self._forget_server()  # it died: a new one
                pid = self._request("fork", theirs.fileno())
        return WorkerProcess(pid, ours, self)

    def reap(self, pid: int) -> int | None:
        try:
            return self._request(f"reap {pid}")
        except (OSError, EOFError, ValueError):
            return None

    def close(self) -> None:
        self._closed = True
        self._forget_server()

    def _forget_server(self) -> None:
        with self._lock:
            if self._control is not None:
                self._control.close()
            if self._server is not None:
                self._server.wait()
            self._control = self._server = None

    def _request(self, request: str, *fds: int) -> int:
        with self._lock:
            control = self._control
            if control is None:
                if self._closed:
                    raise OSError("the service is going down")
                control, theirs = socket.socketpair()
                with theirs:
                    self._server = _boot("app.executors.zygote", theirs.fileno())
                self._control = control
            socket.send_fds(control, [request.encode()], fds)
            answer = control.recv(64)
        if not answer:
            raise EOFError
        return int(answer)


class SpawningLauncher:
    """Each worker is a fresh interpreter."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._workers: dict[int, subprocess.Popen[bytes]] = {}
        self._closed = False

    def launch(self) -> WorkerProcess:
        with self._lock:
            if self._closed:
                raise OSError("the service is going down")
            ours, theirs = Pipe()
            with theirs:
                process = _boot("app.executors.worker", theirs.fileno())
            self._workers[process.pid] = process
        return WorkerProcess(process.pid, ours, self)

    def reap(self, pid: int) -> int | None:
        process = self._workers.pop(pid, None)
        return None if process is None else process.wait()

    def close(self) -> None:
        with self._lock:
            self._closed = True
        for pid, process in list(self._workers.items()):
            process.kill()
            self.reap(pid)


def _boot(module: str, fd: int) -> "subprocess.Popen[bytes]":
    """Start `module.main(fd)` in a fresh interpreter with our import path."""
    arguments = json.dumps([sys.path, module, fd])
    return subprocess.Popen([sys.executable, "-c", BOOT, arguments], pass_fds=[fd], stdin=subprocess.DEVNULL)  # noqa: S603


def _how(code: int | None) -> str:
    if code is None:
        return "ended"
    if code >= 0:
        return f"exited with code {code}"
    name = signal.Signals(-code).name if -code in {each.value for each in signal.Signals} else f"signal {-code}"
    return f"was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
