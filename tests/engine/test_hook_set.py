"""Adapters are sorted once by moment and colour; Burr's own set sorts the same ones in the same way."""

from typing import Any

import pytest
from burr.lifecycle import base as burr_hooks
from burr.lifecycle.internal import LifecycleAdapterSet as BurrSet

from app.engine import hook_set, hooks, span_hooks, stream_hooks
from app.engine.hook_moments import HOOK_NAMES, declared_hooks, hook
from app.engine.hook_set import HookSet


class Both(hooks.PreRunStepHook, hooks.PostRunStepHook):
    def __init__(self) -> None:
        self.calls: list[str] = []

    def pre_run_step(self, **future_kwargs: Any) -> None:
        self.calls.append(f"pre {sorted(future_kwargs)}")

    def post_run_step(self, **future_kwargs: Any) -> None:
        self.calls.append("post")


class Waiting(hooks.PreRunStepHookAsync):
    def __init__(self, calls: list[str]) -> None:
        self.calls = calls

    async def pre_run_step(self, **future_kwargs: Any) -> None:
        self.calls.append("async pre")


class Mistaken(hooks.PreRunStepHook):
    async def pre_run_step(self, **future_kwargs: Any) -> None: ...  # type: ignore[override]  # the mistake that is tested


class Twice(hooks.PreRunStepHook, hooks.PreRunStepHookAsync):  # type: ignore[misc]  # the two bases disagree on the colour
    async def pre_run_step(self, **future_kwargs: Any) -> None: ...


class Delegating(hooks.PreRunStepHookAsync):
    def pre_run_step(self, **future_kwargs: Any) -> Any:
        return self._later()

    async def _later(self) -> None: ...


class Child(Both):
    pass


HOOK_CLASSES = [name for name in burr_hooks.__dict__ if name.endswith(("Hook", "HookAsync"))]


@pytest.mark.parametrize("name", HOOK_CLASSES)
def test_every_hook_class_of_burr_has_a_counterpart_for_the_same_method(name: str) -> None:
    ours = next(vars(module)[name] for module in (hooks, span_hooks, stream_hooks) if name in vars(module))
    theirs = getattr(burr_hooks, name)
    (method, colours), *others = declared_hooks(ours).items()
    assert not others
    assert method == getattr(theirs, "async_hooks" if name.endswith("Async") else "hooks")
    assert colours == {name.endswith("Async")}
    assert ours.__abstractmethods__ == theirs.__abstractmethods__


def test_every_declared_moment_has_a_name_and_every_name_a_class() -> None:
    known = {name for cls in hook_set.LifecycleAdapter.__args__ for name in declared_hooks(cls)}
    assert known == set(HOOK_NAMES)


def test_bound_methods_come_in_the_order_of_the_adapters() -> None:
    first, second = Both(), Child()
    hooks_ = HookSet(first, second)
    assert hooks_.sync("pre_run_step") == (first.pre_run_step, second.pre_run_step)
    assert hooks_.sync("post_run_step") == (first.post_run_step, second.post_run_step)
    assert hooks_.async_("pre_run_step") == ()
    assert hooks_.adapters == [first, second]


def test_an_adapter_that_is_given_twice_is_called_once_as_in_burr() -> None:
    class Spoken(burr_hooks.PreRunStepHook):
        def pre_run_step(self, **future_kwargs: Any) -> None: ...

    both, other, spoken = Both(), Both(), Spoken()
    assert HookSet(both, other, both).sync("pre_run_step") == (both.pre_run_step, other.pre_run_step)
    assert BurrSet(spoken, spoken).sync_hooks["pre_run_step"] == [spoken]


def test_a_new_set_has_the_new_adapters_and_the_old_one_has_not() -> None:
    first, second = Both(), Both()
    old = HookSet(first)
    new = old.with_new_adapters(second)
    assert (old.adapters, new.adapters) == ([first], [first, second])


def test_an_async_method_counts_as_async_whatever_its_class_says() -> None:
    assert HookSet(Mistaken()).async_names == ("Mistaken.pre_run_step",)
    assert HookSet(Mistaken()).sync_names == ()


def test_a_method_of_an_adapter_with_both_colours_is_called_once() -> None:
    both = HookSet(Twice())
    assert len(both.async_("pre_run_step")) == 1
    assert both.sync("pre_run_step") == ()


def test_a_plain_method_of_an_async_hook_may_return_what_is_to_be_awaited() -> None:
    assert HookSet(Delegating()).async_names == ("Delegating.pre_run_step",)


def test_names_are_listed_once_for_messages() -> None:
    calls: list[str] = []
    assert HookSet(Both(), Both(), Waiting(calls)).sync_names == ("Both.pre_run_step", "Both.post_run_step")
    assert HookSet(Both(), Waiting(calls), Waiting(calls)).async_names == ("Waiting.pre_run_step",)


async def test_both_colours_are_called_sync_ones_first() -> None:
    both = Both()
    hooks_ = HookSet(Waiting(both.calls), both)
    await hooks_.call_all_lifecycle_hooks_sync_and_async("pre_run_step", app_id="x")
    assert both.calls == ["pre ['app_id']", "async pre"]


async def test_several_async_hooks_are_called_together() -> None:
    calls: list[str] = []
    await HookSet(Waiting(calls), Waiting(calls)).call_all_lifecycle_hooks_async("pre_run_step")
    assert calls == ["async pre", "async pre"]


def test_a_name_that_is_no_moment_is_an_error_that_lists_them() -> None:
    with pytest.raises(ValueError, match="'pre_run_stop' is no hook; hooks are pre_run_step"):
        HookSet().call_all_lifecycle_hooks_sync("pre_run_stop")
    with pytest.raises(ValueError, match="has no hook method 'nothing'"):
        hook("nothing")(Both)


class BurrBoth(burr_hooks.PreRunStepHook, burr_hooks.PostRunStepHook):
    def pre_run_step(self, **future_kwargs: Any) -> None: ...

    def post_run_step(self, **future_kwargs: Any) -> None: ...


class BurrWaiting(burr_hooks.PreRunStepHookAsync):
    async def pre_run_step(self, **future_kwargs: Any) -> None: ...


def test_burr_sorts_the_same_adapters_in_the_same_way() -> None:
    ours = HookSet(Both(), Waiting([]), Child())
    theirs = BurrSet(BurrBoth(), BurrWaiting(), type("BurrChild", (BurrBoth,), {})())

    def counts(by_moment: dict[str, list[Any]]) -> dict[str, int]:
        return {name: len(adapters) for name, adapters in by_moment.items()}

    assert counts(ours.sync_hooks) == counts(theirs.sync_hooks)
    assert counts(ours.async_hooks) == counts(theirs.async_hooks)
