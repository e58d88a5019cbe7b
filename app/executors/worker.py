"""The life of a worker process: an errand comes in, its items and its reply go out, until the connection closes."""

import os
import pickle
import signal
from multiprocessing.connection import Connection

from app.executors.remote import carry_out, preload
from app.executors.travel import Errand, Item, MachineSource

__all__ = ["NICENESS", "let_the_service_decide", "main"]

NICENESS = 5
"""Workers compute; the event loop answers. Where both want a core, the loop comes first."""


def let_the_service_decide() -> None:
    """Outlive signals that are sent to all processes of the service at once: it drains, and then closes our connection.

    They are handled rather than ignored, because what is ignored stays so in programs that user code starts.
    """
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, lambda *_: None)


def main(connection_fd: int) -> None:
    """Serve the connection behind `connection_fd` until the other side closes it."""
    let_the_service_decide()
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
