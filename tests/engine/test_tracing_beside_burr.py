"""Spans and attributes: the same calls give the same hook calls in apache-burr and here."""

import asyncio
from collections.abc import Callable
from typing import Any

from burr.lifecycle import base as burr_hooks
from burr.lifecycle.internal import LifecycleAdapterSet as BurrSet
from burr.visibility import tracing as burr_tracing
from hypothesis import given
from hypothesis import strategies as st

from app.engine import span_hooks, tracing
from app.engine.hook_set import HookSet

Seen = list[dict[str, Any]]
Plan = list[Any]  # nested: ("span", name, [..]), ("async span", name, [..]), ("attribute", key)

plans = st.recursive(
    st.tuples(st.just("attribute"), st.sampled_from("xyz")),
    lambda inner: st.tuples(st.sampled_from(["span", "async span"]), st.sampled_from("ab"), st.lists(inner, max_size=3)),
    max_leaves=8,
)


def recorder(module: Any) -> Callable[[Seen], Any]:
    """Return a recording adapter over the hook classes of either engine."""

    def note(seen: Seen, moment: str, arguments: dict[str, Any]) -> None:
        span = arguments.pop("span")
        seen.append({"moment": moment, **arguments, "uid": span and span.uid, "span": span and (span.name, span.action)})

    class Recorder(module.PreStartSpanHook, module.PostEndSpanHook, module.DoLogAttributeHook):  # type: ignore[misc, name-defined]  # either engine's
        def __init__(self, seen: Seen) -> None:
            self.seen = seen

        def pre_start_span(self, **arguments: Any) -> None:
            note(self.seen, "start", arguments)

        def post_end_span(self, **arguments: Any) -> None:
            note(self.seen, "end", arguments)

        def do_log_attributes(self, **arguments: Any) -> None:
            note(self.seen, "attributes", arguments)

    return Recorder


Ours = recorder(span_hooks)
Theirs = recorder(burr_hooks)


async def follow(plan: Plan, factory: Any) -> None:
    for kind, name, *rest in plan:
        if kind == "attribute":
            factory.log_attribute(name, 1)
        elif kind == "span":
            with factory(name, ["before"]) as span:
                span.log_attributes(inside=name)
                await follow(rest[0], factory)
        else:
            async with factory(name):
                await follow(rest[0], factory)


def events(plan: Plan, factory_class: Any, hooks: Any, seen: Seen) -> Seen:
    factory = factory_class(action="act", sequence_id=3, app_id="app", partition_key="key", lifecycle_adapters=hooks)
    asyncio.run(follow(plan, factory))
    return seen


@given(st.lists(plans, max_size=4))
def test_the_same_spans_call_the_same_hooks_as_in_burr(plan: Plan) -> None:
    ours: Seen = []
    theirs: Seen = []
    events(plan, tracing.TracerFactory, HookSet(Ours(ours)), ours)
    events(plan, burr_tracing.TracerFactory, BurrSet(Theirs(theirs)), theirs)
    assert ours == theirs
