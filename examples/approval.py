"""Expenses that a person approves: a run halts before `decide`, and the next one brings the decision along.

    {"inputs": {"employee": "ada", "amount": 480.0}, "halt_before": ["decide"]}
    {"inputs": {"approved": true}, "halt_before": ["decide"]}

`submit` is async and runs on the event loop, `assess` is CPU-bound and runs in a process, `pay` blocks and runs in a thread.
A small amount needs no decision.
"""

import hashlib

from app.engine import ApplicationBuilder, State, action, expr

NEEDS_DECISION_FROM = 100.0


@action(reads=[], writes=["employee", "amount"])
async def submit(state: State, employee: str, amount: float) -> State:
    if amount <= 0:
        raise ValueError("an expense must be greater than 0")
    return state.update(employee=employee, amount=amount)


@action(reads=["employee", "amount"], writes=["risk"], executor="process")
def assess(state: State) -> State:
    """Give the expense a risk from 0 to 99; the many rounds stand for a real model."""
    digest = state["employee"].encode()
    for _ in range(20_000):
        digest = hashlib.sha256(digest).digest()
    return state.update(risk=digest[0] % 100)


@action(reads=["amount"], writes=["approved"])
async def decide(state: State, approved: bool) -> State:
    return state.update(approved=approved)


@action(reads=["employee", "amount"], writes=["payment"], executor="thread")
def pay(state: State) -> State:
    return state.update(payment=f"{state['amount']:.2f} to {state['employee']}")


@action(reads=[], writes=["payment"])
async def refuse(state: State) -> State:
    return state.update(payment=None)


def approval() -> ApplicationBuilder:
    return (
        ApplicationBuilder()
        .with_actions(submit, assess, decide, pay, refuse)
        .with_transitions(
            ("submit", "assess"),
            ("assess", "decide", expr(f"amount >= {NEEDS_DECISION_FROM}")),
            ("assess", "pay"),
            ("decide", "pay", expr("approved")),
            ("decide", "refuse"),
        )
        .with_entrypoint("submit")
    )
