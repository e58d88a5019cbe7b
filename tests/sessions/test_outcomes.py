"""What a run of the past gave is answered as it was then, whatever happens to its session meanwhile."""

from typing import Any

import pytest

from app.persistence.factory import open_store
from app.persistence.store import Store
from app.sessions.host import SessionHost
from app.sessions.outcomes import outcome_of
from app.sessions.requests import RunRequest
from tests.machines import counter
from tests.sessions.hosting import create, hosting


class Busy:
    """A store in which a step is taken after the first time that `read` was answered."""

    def __init__(self, host: SessionHost, read: str) -> None:
        self._host = host
        self._read: str | None = read

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._host.store, name)

        async def then_step(session_id: str, *arguments: Any, **named: Any) -> Any:
            answer = await found(session_id, *arguments, **named)
            if self._read is not None:
                self._read = None
                await self._host.step(session_id, {})
            return answer

        return then_step if name == self._read else found


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def any_store(request: pytest.FixtureRequest, tmp_path: Any) -> Store:
    urls = {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path}/sessions.db"}
    return open_store(urls.get(request.param) or str(request.getfixturevalue("postgres_store_url")), migrate=True)


@pytest.mark.parametrize("read", ["get_session", "steps_after_event"])
async def test_a_past_run_is_answered_with_its_own_seq_while_another_one_takes_a_step(any_store: Store, read: str) -> None:
    async with hosting([counter()], any_store) as host:
        session = await create(host)
        first = await (await host.start(session, RunRequest(max_steps=2))).outcome()
        record = await host.store.get_run(first.run_id)
        again = await outcome_of(Busy(host, read), record)  # type: ignore[arg-type]  # it passes everything on
        assert (again.seq, again.state) == (first.seq, first.state) == (1, {"n": 2})
        assert (await host.get(session)).record.seq == 2
