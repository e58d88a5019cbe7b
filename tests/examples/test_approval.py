"""Expenses are assessed and paid; those of some size only after a decision."""

import pytest

from app.engine import Application, BlockingActionWarning
from examples.approval import approval

pytestmark = pytest.mark.filterwarnings(f"ignore::{BlockingActionWarning.__module__}.{BlockingActionWarning.__name__}")


async def submitted(amount: float) -> Application[None]:
    application = approval().build()
    await application.arun(halt_before=["decide"], inputs={"employee": "ada", "amount": amount})
    return application


async def test_a_small_expense_is_paid_at_once() -> None:
    application = await submitted(20.0)
    assert application.get_next_action() is None
    assert application.state["payment"] == "20.00 to ada"


@pytest.mark.parametrize(("approved", "payment"), [(True, "480.00 to ada"), (False, None)])
async def test_a_large_expense_waits_for_a_decision(approved: bool, payment: str | None) -> None:
    application = await submitted(480.0)
    following = application.get_next_action()
    assert following is not None
    assert following.name == "decide"
    await application.arun(halt_after=["pay", "refuse"], inputs={"approved": approved})
    assert application.state["payment"] == payment


async def test_an_expense_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="greater than 0"):
        await submitted(0.0)
