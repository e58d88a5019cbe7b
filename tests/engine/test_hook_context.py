from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar, Token

from app.engine.hook_context import HookContext

depth: ContextVar[int] = ContextVar("depth", default=0)


def test_what_one_hook_sets_another_one_can_reset_in_another_thread() -> None:
    hooks = HookContext()
    tokens: list[Token[int]] = []

    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
        one.submit(hooks.bind(lambda: tokens.append(depth.set(1)))).result()
        assert other.submit(hooks.bind(depth.get)).result() == 1
        other.submit(hooks.bind(lambda: depth.reset(tokens[0]))).result()
        assert one.submit(hooks.bind(depth.get)).result() == 0
    assert depth.get() == 0


def test_hooks_that_come_at_the_same_time_wait_for_each_other() -> None:
    hooks = HookContext()

    def count() -> int:
        before = depth.get()
        depth.set(before + 1)
        return before

    with ThreadPoolExecutor(8) as pool:
        seen = [future.result() for future in [pool.submit(hooks.bind(count)) for _ in range(200)]]
    assert sorted(seen) == list(range(200))


def test_a_hook_that_is_bound_stays_in_its_context() -> None:
    inner, outer = HookContext(), HookContext()
    inner.bind(lambda: depth.set(7))()

    assert outer.bind(inner.bind(depth.get))() == 7
    assert outer.bind(depth.get)() == 0
