"""A counter: `n` grows by `by` at each step, for ever."""

from app.engine import ApplicationBuilder, State, action


@action(reads=["n"], writes=["n"])
async def count(state: State, by: int = 1) -> State:
    return state.increment(n=by)


def counter() -> ApplicationBuilder:
    return ApplicationBuilder().with_actions(count).with_transitions(("count", "count")).with_state(n=0).with_entrypoint("count")


@action(reads=["accounts"], writes=["accounts"])
async def refuse(state: State, secret: str, shape: str) -> State:
    """Fail with a message that repeats what nobody may read."""
    known = state["accounts"]
    match shape:
        case "input":
            raise ValueError(f"no account for {secret}")
        case "key":
            raise KeyError(next(iter(known)))
        case "long":
            raise LookupError(f"not in {known}")
        case "part":
            int(next(iter(known.values())))
        case "cause":
            raise RuntimeError("at last") from KeyError(secret)
    return state


def refuser() -> ApplicationBuilder:
    builder = ApplicationBuilder().with_actions(refuse).with_transitions(("refuse", "refuse"))
    return builder.with_state(accounts={}).with_entrypoint("refuse")
