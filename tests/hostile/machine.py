"""A counter: `n` grows by `by` at each step, for ever."""

from app.engine import ApplicationBuilder, State, action


@action(reads=["n"], writes=["n"])
async def count(state: State, by: int = 1) -> State:
    return state.increment(n=by)


def counter() -> ApplicationBuilder:
    return ApplicationBuilder().with_actions(count).with_transitions(("count", "count")).with_state(n=0).with_entrypoint("count")
