"""The machine of the chaos tests. Each action leaves a trace outside of the service, as a payment or an e-mail would.

`note`, `tell` and `book` write one line for each call: at least one for a committed step. `pay` uses its idempotency token, so
that however often it is called its payment is made once. `chain` is a digest over all steps before: a step that ran on another
state than that of the step before it would show.
"""

import asyncio
import contextlib
import os
import random
import time
from hashlib import blake2b
from pathlib import Path

from app.engine import ApplicationBuilder, ApplicationContext, State, action, streaming_action

FOLDER = Path(os.environ["LEDGER_FOLDER"])
LONGEST_PAUSE_S = 0.06

_calls = os.open(FOLDER / "calls", os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def called(name: str, context: ApplicationContext) -> None:
    """Leave one line for this call; a single write of this size to the end of a file is not torn apart."""
    line = f"{name} {context.app_id} {context.sequence_id} {context.idempotency_token} {context.run_id} {time.time()}\n"
    os.write(_calls, line.encode())


def linked(chain: str, seq: int | None, name: str) -> str:
    return blake2b(f"{chain} {seq} {name}".encode(), digest_size=12).hexdigest()


def moved(state: State, name: str, context: ApplicationContext) -> tuple[dict[str, object], State]:
    after = state.increment(n=1).update(chain=linked(state["chain"], context.sequence_id, name))
    return {"n": after["n"], "chain": after["chain"]}, after


def pause_s() -> float:
    return random.uniform(0.01, LONGEST_PAUSE_S)


@action(reads=["n", "chain"], writes=["n", "chain"])
async def note(state: State, __context: ApplicationContext) -> tuple[dict[str, object], State]:
    called("note", __context)
    await asyncio.sleep(pause_s())
    return moved(state, "note", __context)


@action(reads=["n", "chain"], writes=["n", "chain", "paid"])
async def pay(state: State, __context: ApplicationContext) -> tuple[dict[str, object], State]:
    called("pay", __context)
    folder = FOLDER / "payments" / __context.app_id
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):  # an earlier attempt at this step has paid
        (folder / __context.idempotency_token).touch(exist_ok=False)
    await asyncio.sleep(pause_s())
    result, after = moved(state, "pay", __context)
    return result, after.append(paid=__context.sequence_id)


@streaming_action(reads=["n", "chain"], writes=["n", "chain"])
async def tell(state: State, __context: ApplicationContext):
    called("tell", __context)
    for part in range(3):
        yield {"part": part}, None
        await asyncio.sleep(pause_s() / 3)
    yield moved(state, "tell", __context)


@action(reads=["n", "chain"], writes=["n", "chain"])
def book(state: State, __context: ApplicationContext) -> tuple[dict[str, object], State]:
    called("book", __context)
    time.sleep(pause_s())
    return moved(state, "book", __context)


def ledger() -> ApplicationBuilder:
    return (
        ApplicationBuilder()
        .with_actions(note, pay, tell, book)
        .with_transitions(("note", "pay"), ("pay", "tell"), ("tell", "book"), ("book", "note"))
        .with_state(n=0, chain="", paid=[])
        .with_entrypoint("note")
    )
