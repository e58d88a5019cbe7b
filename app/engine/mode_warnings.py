"""The warnings about mixing sync and async. A filter on `MixedModeWarning` or `BlockingActionWarning` turns them off."""

from collections.abc import Collection

__all__ = ["BlockingActionWarning", "MixedModeWarning", "StreamErrorWarning", "blocking_action"]


class MixedModeWarning(UserWarning):
    """Hooks, builder and run method are not all of one colour; it works, at a price that the message names."""


class BlockingActionWarning(UserWarning):
    """A sync action runs in an async run: it goes to an executor, which costs a hop per step."""


class StreamErrorWarning(UserWarning):
    """A streaming action raised after it had given what its step needs; the step was completed with that."""


def blocking_action(action: str) -> BlockingActionWarning:
    """Return the warning for a sync action in an async run."""
    return BlockingActionWarning(
        f"action {action!r} is sync and runs in an async run: it is carried out in an executor; make it async to save the hop"
    )


def sync_hooks_in_async_run(hooks: Collection[str]) -> MixedModeWarning:
    """Row 2 of the table: built with build(), sync hooks, async run."""
    return MixedModeWarning(
        f"the sync hooks {sorted(hooks)} run in an async run: each call goes to an executor so that it cannot block the loop"
    )


def async_hooks_skipped(hooks: Collection[str]) -> MixedModeWarning:
    """Row 3: built with build(), async hooks, sync run."""
    return MixedModeWarning(
        f"the async hooks {sorted(hooks)} are skipped in a sync run; use the async run methods to have them called"
    )


def async_hooks_without_abuild(hooks: Collection[str]) -> MixedModeWarning:
    """Row 4: built with build(), async hooks, async run."""
    return MixedModeWarning(f"the async hooks {sorted(hooks)} belong to an application built with build(); use abuild()")


def sync_hooks_after_abuild(hooks: Collection[str]) -> MixedModeWarning:
    """Row 8: built with abuild(), sync hooks, async run."""
    return MixedModeWarning(
        f"the sync hooks {sorted(hooks)} belong to an application built with abuild(): make them async, or use build()"
    )
