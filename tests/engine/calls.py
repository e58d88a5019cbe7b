"""The run methods in both colours under one name each, so that one test can go through all of them."""

from typing import Any

__all__ = ["METHODS", "arun_to_end", "run_to_end"]

METHODS = ("step", "iterate", "run", "stream_result", "stream_iterate")


def run_to_end(application: Any, method: str, after: str, inputs: dict[str, Any] | None = None) -> dict[str, Any]:
    """Call a sync run method until `after` has run, and return the values of the state."""
    match method:
        case "step":
            application.step(inputs=inputs)
        case "iterate":
            for _ in application.iterate(halt_after=[after], inputs=inputs):
                pass
        case "run":
            application.run(halt_after=[after], inputs=inputs)
        case "stream_result":
            _, container = application.stream_result(halt_after=[after], inputs=inputs)
            container.get()
        case "stream_iterate":
            for _, container in application.stream_iterate(halt_after=[after], inputs=inputs):
                container.get()
    return application.state.get_all()  # type: ignore[no-any-return]


async def arun_to_end(application: Any, method: str, after: str, inputs: dict[str, Any] | None = None) -> dict[str, Any]:
    """`run_to_end` with the async method."""
    match method:
        case "step":
            await application.astep(inputs=inputs)
        case "iterate":
            async for _ in application.aiterate(halt_after=[after], inputs=inputs):
                pass
        case "run":
            await application.arun(halt_after=[after], inputs=inputs)
        case "stream_result":
            _, container = await application.astream_result(halt_after=[after], inputs=inputs)
            await container.get()
        case "stream_iterate":
            async for _, container in application.astream_iterate(halt_after=[after], inputs=inputs):
                await container.get()
    return application.state.get_all()  # type: ignore[no-any-return]
