"""The process that worker processes are forked from: warm with the engine's imports, single-threaded, no user code in it.

Run by `app.executors.workers`. It obeys one socket; when that closes, because the service ended or was killed, it kills
its workers, busy or not, and ends. Requests, each answered before the next is sent:
`fork` with a file descriptor (the worker's end of its connection) → the worker's pid;
`reap PID` (which has ended or is about to) → its exit code, negative for a signal.
"""

import os
import signal
import socket
import sys

from app.executors import worker

__all__ = ["main"]

REQUEST_BYTES = 64


def main(control_fd: int) -> None:
    """Obey the socket behind `control_fd` until it closes."""
    worker.let_the_service_decide()
    workers: set[int] = set()
    control = socket.socket(fileno=control_fd)
    while True:
        request, fds, _flags, _address = socket.recv_fds(control, REQUEST_BYTES, 1)
        if not request:
            break
        word, _, argument = request.decode().partition(" ")
        if word == "fork":
            pid = os.fork()
            if pid == 0:
                control.close()
                _become_a_worker(fds[0])
            os.close(fds[0])
            workers.add(pid)
            answer = pid
        else:
            workers.discard(int(argument))
            answer = os.waitstatus_to_exitcode(os.waitpid(int(argument), 0)[1])
        control.send(str(answer).encode())
    for pid in workers:
        os.kill(pid, signal.SIGKILL)  # not reaped yet, so the number is still theirs


def _become_a_worker(connection_fd: int) -> None:
    try:
        worker.main(connection_fd)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
