"""What a turn of a long chat costs in the store and over HTTP, at its beginning and at its end, and what it takes on disk.

Over HTTP the same chat is written in each of the ways of `chat_ways`, and once with short turns.

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
from benchmarks.chat_ways import WAYS
from benchmarks.processes import databases
from benchmarks.served_chats import Served, measure
from benchmarks.tables import Bar, show, show_bars

__all__ = ["main"]

_TURNS = 2000
_AROUND = 8
_CHATS = 5
_SERVED_CHATS = 4
_LENGTHS = (80, 600)
_SHORT_LENGTHS = (40, 100)
_MOST_STORED = {"chatting": 1.5, "extended": 1.5}  # times what was said; 2 for all others


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
    stores, rows, bars = sys.argv[1:] or ["sqlite", "postgresql"], [], []
    for name in stores:
        with databases([name]) as urls:
            chats = [asyncio.run(_chat(urls[name], f"chat {number}"))[0] for number in range(_CHATS)]
        early = 1e6 * median([one for times in chats for one in times[10 - _AROUND : 10 + _AROUND]])
        late = 1e6 * median([one for times in chats for one in times[_TURNS - 2 * _AROUND : _TURNS]])
        load = 1e3 * median([times[-1] for times in chats])
        rows.append([f"{name}: the store alone", f"{early:.0f}", f"{late:.0f}", f"{late / early:.2f}", f"load {load:.1f} ms"])
    for name in stores:
        for machine, way in WAYS.items():
            served = _served(name, machine, _LENGTHS)
            ratio, stored, most = served.late_s / served.early_s, served.stored / served.said, _MOST_STORED.get(machine, 2)
            rows.append(_row(f"{name}: a request, {way}", served.early_s, served.late_s, f"{stored:.2f} x stored"))
            bars.append(Bar(f"{name}: turn {_TURNS:,} against turn 10, {way}", f"{ratio:.2f}x", "1.2x", ratio <= 1.2))
            bars.append(Bar(f"{name}: bytes on disk against what was said, {way}", f"{stored:.2f}x", f"{most}x", stored <= most))
            if machine == "chatting":
                times = served.early_with_state_s, served.late_with_state_s
                rows.append(_row(f"{name}: a request, {way}, the state in its answer", *times))
        served = _served(name, "chatting", _SHORT_LENGTHS)
        kept = f"{served.stored / served.said:.2f} x stored"
        rows.append(_row(f"{name}: a request, append, turns of 40 and 100 characters", served.early_s, served.late_s, kept))
    title = f"A turn of a chat of {_TURNS:,} turns: median of those around the 10th and of the last {2 * _AROUND}"
    show(title, ["", "turn 10 µs", f"turn {_TURNS} µs", "ratio", ""], rows)
    show_bars(bars)


def _served(store: str, machine: str, lengths: tuple[int, int]) -> Served:
    with databases([store]) as urls:
        return measure(urls[store], machine, lengths, _SERVED_CHATS, _TURNS, _AROUND, _said)


def _row(what: str, early_s: float, late_s: float, note: str = "") -> list[str]:
    return [what, f"{1e6 * early_s:.0f}", f"{1e6 * late_s:.0f}", f"{late_s / early_s:.2f}", note]


if __name__ == "__main__":
    main()
