"""What a turn of a long chat costs in the store, at its beginning and at its end, and what the chat takes on disk.

python -m benchmarks.history_cost [sqlite] [postgresql]
"""

import asyncio
import os
import sys
import time
from statistics import median

from app.engine.operations import Append, Set
from app.persistence.factory import open_store
from app.persistence.records import Commit, NewSession, SessionStatus, StepCommit
from benchmarks.processes import databases

__all__ = ["main"]

_TURNS = 2000
_AROUND = 10
_CHATS = 5


def _said(length: int) -> str:
    return os.urandom(length // 2).hex()  # noise: hexadecimal digits can be halved by compression, but no more


async def _chat(url: str, session_id: str) -> tuple[list[float], int]:
    """Return the time of every turn in seconds, and the bytes that were said."""
    store = open_store(url, migrate=True)
    await store.open()
    now = time.time()
    await store.create_session(NewSession(session_id, "chat", "1", {"history": []}, "answer", created_at_s=now, event_id=1))
    history: list[dict[str, str]] = []
    times: list[float] = []
    content = 0
    for turn in range(_TURNS):
        prompt, reply = _said(80), _said(600)
        content += len(prompt) + len(reply)
        messages = ({"role": "user", "content": prompt}, {"role": "assistant", "content": reply})
        history = [*history, *messages]
        operations = (Append("history", messages[0]), Append("history", messages[1]), Set("reply", reply))
        step = StepCommit(
            turn,
            "answer",
            operations,
            {"reply": reply},
            {"history": history, "reply": reply},
            "answer",
            now,
            now,
            2 * turn,
            2 * turn + 1,
        )
        began = time.perf_counter()
        await store.commit(Commit(session_id, SessionStatus.IDLE, 2 * turn + 1, step=step))
        times.append(time.perf_counter() - began)
    began = time.perf_counter()
    await store.load_session(session_id)
    times.append(time.perf_counter() - began)
    await store.close()
    return times, content


def main() -> None:
    names = sys.argv[1:] or ["sqlite", "postgresql"]
    print(f"one chat of {_TURNS:,} turns, median of {2 * _AROUND} turns around each of {_CHATS} chats\n")
    print(f"{'database':12} {'turn 10 µs':>11} {f'turn {_TURNS} µs':>13} {'ratio':>6} {'load ms':>8}")
    for name in names:
        with databases([name]) as urls:
            chats = [asyncio.run(_chat(urls[name], f"chat {number}"))[0] for number in range(_CHATS)]
        early = 1e6 * median([one for times in chats for one in times[10 - _AROUND : 10 + _AROUND]])
        late = 1e6 * median([one for times in chats for one in times[_TURNS - 2 * _AROUND : _TURNS]])
        load = 1e3 * median([times[-1] for times in chats])
        print(f"{name:12} {early:11.0f} {late:13.0f} {late / early:6.2f} {load:8.1f}")


if __name__ == "__main__":
    main()
