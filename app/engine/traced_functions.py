"""The `trace` decorator: spans for functions that know nothing of actions.

It finds the tracer of the action that is running through a context variable. The spans themselves are in `app.engine.tracing`.
"""

import functools
import inspect
from collections.abc import Callable
from contextlib import nullcontext
from contextvars import ContextVar
from hashlib import sha256
from typing import Any, TypeVar

from app.engine.tracing import ActionSpanTracer, TracerFactory, tracer_factory_context_var

__all__ = ["trace"]

_Function = TypeVar("_Function", bound=Callable[..., Any])


class trace:  # noqa: N801  # Burr's name, used as a decorator
    """Decorator that makes a span of every call of a function, sync or async, that happens while an action runs.

    Arguments and return value are logged as attributes unless told otherwise; those in `input_filterlist` never are. Outside
    an action the function is called as it is.
    """

    def __init__(
        self,
        capture_inputs: bool = True,
        capture_outputs: bool = True,
        input_filterlist: list[str] | None = None,
        span_name: str | None = None,
        _context_var: ContextVar[TracerFactory | None] = tracer_factory_context_var,
    ) -> None:
        self.capture_inputs = capture_inputs
        self.capture_outputs = capture_outputs
        self.input_filterlist = list(input_filterlist or ())
        self.span_name = span_name
        self.context_var = _context_var

    def __call__(self, fn: _Function) -> _Function:
        signature = inspect.signature(fn)
        name = self.span_name or fn.__name__

        def span() -> ActionSpanTracer | nullcontext[None]:
            factory = self.context_var.get()
            return nullcontext() if factory is None else factory(name)

        def begun(opened: ActionSpanTracer | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ActionSpanTracer | None:
            if opened is not None and self.capture_inputs:
                given = signature.bind(*args, **kwargs).arguments
                opened.log_attributes(**{key: value for key, value in given.items() if key not in self.input_filterlist})
            if opened is not None:
                opened.log_attributes(**_about(fn))
            return opened

        def ended(opened: ActionSpanTracer | None, output: Any) -> Any:
            if opened is not None and self.capture_outputs:
                opened.log_attributes(**{"return": output})
            return output

        @functools.wraps(fn)
        def call(*args: Any, **kwargs: Any) -> Any:
            with span() as opened:
                return ended(begun(opened, args, kwargs), fn(*args, **kwargs))

        @functools.wraps(fn)
        async def acall(*args: Any, **kwargs: Any) -> Any:
            async with span() as opened:
                return ended(begun(opened, args, kwargs), await fn(*args, **kwargs))

        traced: Any = acall if inspect.iscoroutinefunction(fn) else call
        return traced  # type: ignore[no-any-return]  # it has the signature of `fn`


@functools.cache
def _about(fn: Callable[..., Any]) -> dict[str, str]:
    try:
        digest = sha256("".join(inspect.getsourcelines(fn)[0]).encode()).hexdigest()
    except OSError:
        digest = "no source"
    return {"__burr_function": fn.__qualname__, "__burr_function_hash": digest}
