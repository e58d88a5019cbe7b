"""When a failed action is called again. A value that decides; waiting is the driver's."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.engine.quitting import is_one_of

if TYPE_CHECKING:
    from tenacity.wait import wait_base

__all__ = ["Retry"]


@dataclass(frozen=True, slots=True)
class Retry:
    """Call an action again when it raises one of `on`, up to `attempts` calls in all.

    The wait before the next call grows by `wait_exp_base` each time, from `wait_initial_s` to at most `wait_max_s`, and varies
    by up to `wait_jitter_s`. `wait` takes any wait strategy of tenacity instead. A stream is tried again only while it has
    given no item.
    """

    on: type[BaseException] | tuple[type[BaseException], ...] = Exception
    attempts: int = 3
    wait_initial_s: float = 0.1
    wait_max_s: float = 5.0
    wait_jitter_s: float = 0.1
    wait_exp_base: float = 2.0
    wait: "wait_base | None" = None

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"retry attempts must be at least 1, not {self.attempts}")

    def delay_s(self, error: Exception, attempt: int) -> float | None:
        """Return how long to wait after `error` in call number `attempt` (from 1); None when it should leave the action."""
        if attempt >= self.attempts or not is_one_of(error, self.on):
            return None
        from tenacity import RetryCallState, Retrying, wait_exponential_jitter  # only a failure needs it

        call = RetryCallState(Retrying(), None, (), {})
        call.attempt_number = attempt
        wait = self.wait or wait_exponential_jitter(
            multiplier=self.wait_initial_s, max=self.wait_max_s, exp_base=self.wait_exp_base, jitter=self.wait_jitter_s
        )
        return wait(call)


def as_retry(given: Retry | int | None) -> Retry | None:
    """Return `given` as a policy: a number stands for so many attempts."""
    return Retry(attempts=given) if isinstance(given, int) else given
