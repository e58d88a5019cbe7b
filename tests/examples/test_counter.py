"""The counter counts for ever, its sync and its async action taking turns."""

import pytest

from app.engine import BlockingActionWarning
from examples.counter import counter


@pytest.mark.filterwarnings("ignore::app.engine.BlockingActionWarning")
async def test_it_counts_and_judges_in_turns() -> None:
    application = counter().build()
    last, _, state = await application.arun(halt_after=["judge"], inputs={"by": 3})
    assert (last.name, state["count"], state["parity"]) == ("judge", 3, "odd")
    _, _, state = await application.arun(halt_after=["judge"])
    assert (state["count"], state["parity"]) == (4, "even")


async def test_its_sync_action_is_named_once() -> None:
    application = counter().build()
    with pytest.warns(BlockingActionWarning, match="judge"):
        await application.arun(halt_after=["judge"])
