"""An answer that is lost on its way: the commit was carried out, and the store finds that out."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from app.persistence.store import SessionExists, StoreUnavailable
from tests.persistence.making import T0, new, opened, started, step, step_commit


class Line:
    """A line to PostgreSQL that can be cut after a request went through and before its answer comes back."""

    def __init__(self) -> None:
        self.loses_next_answer = False
        self.is_cut = False
        self.lost = 0
        self.is_open = asyncio.Event()
        self.is_open.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: str) -> None:
        if self.is_cut:
            writer.close()
            return
        server_reader, server_writer = await asyncio.open_unix_connection(target)
        there = asyncio.create_task(self._forward(reader, server_writer))
        while data := await server_reader.read(65536):
            await self.is_open.wait()
            if self.loses_next_answer:
                self.loses_next_answer = False
                self.lost += 1
                break
            writer.write(data)
        there.cancel()
        for end in (writer, server_writer):
            end.close()
            with contextlib.suppress(ConnectionError):
                await end.wait_closed()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.write_eof()


@asynccontextmanager
async def line_to(postgres_url: str, folder: Path) -> AsyncIterator[tuple[Line, str]]:
    socket_folder = postgres_url.split("host=")[1]
    line = Line()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await line.serve(reader, writer, f"{socket_folder}/.s.PGSQL.5432")

    server = await asyncio.start_unix_server(serve, folder / ".s.PGSQL.5432")
    try:
        yield line, postgres_url.replace(socket_folder, str(folder))
    finally:
        server.close()
        await server.wait_closed()


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """The path of a socket has to fit into 107 characters."""
    with tempfile.TemporaryDirectory(prefix="stepwell-") as folder:
        yield Path(folder)


async def test_a_commit_whose_answer_is_lost_is_reported_as_what_it_was(postgres_url: str, short_folder: Path) -> None:
    async with line_to(postgres_url, short_folder) as (line, url), opened(url, patience_s=60.0) as store:
        ids = [f"s{number}" for number in range(20)]
        await asyncio.gather(*map(store.create_session, map(new, ids)))
        other = step(0, first_event_id=1, event_id=2)
        await store.commit(step_commit("s7", other, run_start=started("other"), run_id="other"))

        line.loses_next_answer = True
        commits = [step_commit(one, step(0), run_start=started(one), run_id=one) for one in ids]
        outcomes = await asyncio.gather(*map(store.commit, commits), return_exceptions=True)
        assert [str(outcome) for outcome in outcomes if outcome is not None] == [
            "step 0 of session 's7' does not follow the last committed one"
        ]

        line.loses_next_answer = True
        news = [new("new", created_at_s=T0 + 5), new("s3", created_at_s=T0 + 5)]
        created = await asyncio.gather(*map(store.create_session, news), return_exceptions=True)
        assert created[0] is None
        assert isinstance(created[1], SessionExists)

        assert line.lost == 2
        for one in ids:
            assert [found.seq for found in await store.list_steps(one)] == [0]
        assert (await store.load_session("new")).state == {"n": 0}


async def test_a_commit_in_doubt_while_the_server_stays_away_says_so(postgres_url: str, short_folder: Path) -> None:
    async with line_to(postgres_url, short_folder) as (line, url), opened(url, patience_s=0.2) as store:
        await store.create_session(new())
        await store.commit(step_commit("s", step(0)))  # the statement is prepared: the next answer is that of a commit
        line.loses_next_answer = line.is_cut = True
        with pytest.raises(StoreUnavailable, match="not known"):
            await store.commit(step_commit("s", step(1)))
        line.is_cut = False
        assert (await store.get_session("s")).seq == 1


async def test_a_server_that_falls_silent_is_unavailable_and_works_when_it_speaks_again(
    postgres_url: str, short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with line_to(postgres_url, short_folder) as (line, url), opened(url, pool_size=3) as store:
        await store.create_session(new())
        assert (await store.get_session("s")).seq == -1
        line.is_open.clear()
        asked = (*(store.get_session("s") for _ in range(6)), store.queue_run("s", started("r")))
        with monkeypatch.context() as impatient:
            impatient.setattr("app.persistence.reader.ANSWER_LIMIT_S", 0.3)
            impatient.setattr("app.persistence.database._WRITE_TIMEOUT_S", 0.3)
            async with asyncio.timeout(60):
                outcomes = await asyncio.gather(*asked, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {StoreUnavailable}
        line.is_open.set()
        assert (await store.get_session("s")).seq == -1
        await store.commit(step_commit("s", step(0)))
        assert (await store.get_session("s")).seq == 0
