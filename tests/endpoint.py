"""A real HTTP server that receives webhooks, and answers them as a test wants."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

__all__ = ["Endpoint", "Received", "receiving"]

LIMIT_S = 60.0


@dataclass(frozen=True)
class Received:
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Endpoint:
    """What has come so far. `answer` says with which status the number-th request is answered, counted from 1."""

    url: str
    answer: Callable[[int], int]
    received: list[Received] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def until(self, count: int) -> list[Received]:
        """Return what has come when it is so many."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.received) >= count, LIMIT_S), f"{len(self.received)} of {count} came"
            return list(self.received)

    def take(self, received: Received) -> int:
        with self.changed:
            self.received.append(received)
            number = len(self.received)
            self.changed.notify_all()
        return self.answer(number)


@contextlib.contextmanager
def receiving(answer: Callable[[int], int] = lambda _number: 204) -> Iterator[Endpoint]:
    """Receive at a port of this machine until the block ends. A status of 0 is no answer at all, and 1 one without an end.

    A request that its sender leaves before its body is whole, as one that is killed does, has not come.
    """
    done = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["content-length"])
            body = self.rfile.read(length)
            if len(body) < length:
                self.close_connection = True
                return
            status = endpoint.take(Received(self.path, {name.lower(): value for name, value in self.headers.items()}, body))
            if status == 0:
                done.wait(LIMIT_S)
                return
            self.send_response(200 if status == 1 else status)
            self.send_header("location", "/elsewhere")
            if status != 1:
                self.send_header("content-length", "0")
            self.end_headers()
            with contextlib.suppress(OSError):
                while status == 1 and not done.is_set():
                    self.wfile.write(b"x" * 65536)
                    time.sleep(0.01)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    endpoint = Endpoint(f"http://127.0.0.1:{server.server_address[1]}/hook", answer)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield endpoint
    finally:
        done.set()
        server.shutdown()
        server.server_close()
        thread.join(LIMIT_S)
