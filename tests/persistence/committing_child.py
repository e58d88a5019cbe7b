"""A process that commits until it is killed: `python -m tests.persistence.committing_child URL SESSIONS`.

It prints `id seq` for every step that the store said is durable.
"""

import asyncio
import sys

from app.engine.operations import Append, Increment
from tests.persistence.making import ended, new, opened, started, step, step_commit


async def _client(store, session_id: str) -> None:  # type: ignore[no-untyped-def]  # a child process has no use for types
    loaded = await store.load_session(session_id)
    state, seq = loaded.state, loaded.record.seq
    while True:
        seq += 1
        state = {"n": state["n"] + 1, "log": [*state["log"], f"step {seq} of {session_id}"]}
        made = step(seq, (Increment("n", 1), Append("log", state["log"][-1])), state)
        run_id = f"{session_id} {seq}"
        run = {"run_start": started(run_id, 10 * seq + 10), "run_end": ended(run_id, 10 * seq + 13), "run_id": run_id}
        await store.commit(step_commit(session_id, made, **run))
        print(session_id, seq, flush=True)


async def _main(url: str, sessions: int) -> None:
    async with opened(url) as store:
        ids = [f"s{number}" for number in range(sessions)]
        for session_id in ids:
            page = await store.list_runs(session_id, limit=1)
            if not page:
                await asyncio.gather(store.create_session(new(session_id, state={"n": 0, "log": []})), return_exceptions=True)
        async with asyncio.TaskGroup() as group:
            for session_id in ids:
                group.create_task(_client(store, session_id))


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], int(sys.argv[2])))
