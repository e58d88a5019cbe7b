"""The life of a worker process: an errand comes in, its items and its reply go out, until the connection closes."""

import os
import pickle
import signal
from multiprocessing.connection import Connection

from app.executors.remote import carry_out, preload
from app.executors.travel import Errand, Item, MachineSource

__all__ = ["NICENESS", "main"]

NICENESS = 5
"""Workers compute; the event loop answers. Where both want a core, the loop comes first."""


def main(connection_fd: int) -> None:
    """Serve the connection behind `connection_fd` until the other side closes it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(NICENESS)
    connection: Connection = Connection(connection_fd)
    while True:
        try:
            message = pickle.loads(connection.recv_bytes())  # noqa: S301 - from the service that started us
        except (EOFError, OSError):
            return
        if isinstance(message, MachineSource):
            preload(message)
            continue
        errand: Errand = message
        reply = carry_out(errand, lambda payload: connection.send_bytes(pickle.dumps(Item(payload))))
        try:
            connection.send_bytes(pickle.dumps(reply))
        except OSError:  # nobody waits any more
            return
