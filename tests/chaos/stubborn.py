"""A machine whose action swallows every cancel, for the harm of that name."""

import asyncio
import contextlib

from app.engine import ApplicationBuilder, State, action

LONG_S = 600


@action(reads=[], writes=["v"])
async def swallow(state: State) -> State:
    for _ in range(LONG_S):
        with contextlib.suppress(BaseException):
            await asyncio.sleep(1)
    return state.update(v=1)


def stubborn() -> ApplicationBuilder:
    return ApplicationBuilder().with_actions(swallow).with_transitions(("swallow", "swallow")).with_entrypoint("swallow")
