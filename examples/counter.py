"""Counts for ever. `count` is async and runs on the event loop; `judge` is sync and runs in a thread: no other difference."""

from app.engine import ApplicationBuilder, State, action


@action(reads=["count"], writes=["count"])
async def count(state: State, by: int = 1) -> State:
    return state.increment(count=by)


@action(reads=["count"], writes=["parity"])
def judge(state: State) -> State:
    return state.update(parity="even" if state["count"] % 2 == 0 else "odd")


def counter() -> ApplicationBuilder:
    return (
        ApplicationBuilder()
        .with_actions(count, judge)
        .with_transitions(("count", "judge"), ("judge", "count"))
        .with_state(count=0)
        .with_entrypoint("count")
    )
