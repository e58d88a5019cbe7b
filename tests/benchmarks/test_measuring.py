"""The benchmarks' own tools: a figure is worth what they are."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from subprocess import run

import pytest

from benchmarks.load import Load, apply_load
from benchmarks.measuring import alternate, percentile
from benchmarks.wire import Answer, connect, request_bytes


def test_a_percentile_is_a_value_that_so_many_do_not_exceed() -> None:
    values = [float(value) for value in range(100, 0, -1)]
    assert (percentile(values, 0.5), percentile(values, 0.99), percentile(values, 1)) == (50, 99, 100)
    assert percentile([7.0], 0.01) == 7


def test_subjects_take_turns_and_the_first_turn_does_not_count() -> None:
    order: list[str] = []

    def subject(name: str) -> float:
        order.append(name)
        return float(len(order))

    figures = alternate(2, {"a": lambda: subject("a"), "b": lambda: subject("b")})
    assert order == ["a", "b", "a", "b", "a", "b"]
    assert figures == {"a": [3.0, 5.0], "b": [4.0, 6.0]}


@asynccontextmanager
async def served(answer: bytes, size: int = 1000) -> AsyncIterator[int]:
    """Answer every request with `answer`, in pieces of `size`; yields the port, and waits for the connection to end."""
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):
            while await reader.readuntil(b"\r\n\r\n"):
                for start in range(0, len(answer), size):
                    writer.write(answer[start : start + size])
                    await writer.drain()
                    await asyncio.sleep(0)
        writer.close()
        await writer.wait_closed()
        ended.set()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]
        await ended.wait()


@pytest.mark.parametrize("size", [1, 10, 1000])
async def test_an_answer_may_come_in_pieces(size: int) -> None:
    answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
    async with served(b"HTTP/1.1 201 Created\r\nx: y\r\nContent-Length: 5\r\n\r\nhello", size) as port:
        wire = await connect("127.0.0.1", port, answered.set_result, lambda: None)
        wire.send(request_bytes("GET", "/"))
        assert await answered == (201, b"hello")
        wire.close()


async def test_refused_requests_are_no_rate() -> None:
    async with served(b"HTTP/1.1 503 No\r\nContent-Length: 4\r\n\r\nbusy") as port:
        load = Load("127.0.0.1", port, "GET", ["/"], None, {}, 0.1)
        with pytest.raises(RuntimeError, match="refused, one with: busy"):
            await asyncio.to_thread(apply_load, load)


def test_an_unknown_benchmark_is_one_clear_line() -> None:
    done = run([sys.executable, "-m", "benchmarks", "nothing"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("no benchmark is called 'nothing'; there are: engine, ")
