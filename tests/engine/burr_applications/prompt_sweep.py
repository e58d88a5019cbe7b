"""Map and reduce over prompts and models, written for Burr.

Every style is tried on every prompt in a small graph of its own (draft, then polish); the answers are scored, the best one of
each prompt is kept, and a judge sums up.
"""

from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any

from burr.core import ApplicationBuilder, ApplicationContext, GraphBuilder, State, action
from burr.core.parallelism import MapActionsAndStates, MapStates, RunnableGraph, SubGraphTask, TaskBasedParallelAction
from burr.lifecycle import PostRunStepHook

Model = Callable[[str], str]


@action(reads=["prompt"], writes=["draft"])
def draft(state: State, model: Model, style: str) -> State:
    return state.update(draft=model(f"{style}: {state['prompt']}"))


@action(reads=["draft"], writes=["answer", "score"])
def polish(state: State) -> State:
    answer = state["draft"].strip().capitalize()
    return state.update(answer=answer, score=len(set(answer)))


def drafting(model: Model, style: str) -> RunnableGraph:
    """Draft and polish in one style."""
    graph = (
        GraphBuilder()
        .with_actions(polish, draft=draft.bind(model=model, style=style))
        .with_transitions(("draft", "polish"))
        .build()
    )
    return RunnableGraph(graph=graph, entrypoint="draft", halt_after=["polish"])


class Sweep(MapActionsAndStates):
    """Every style on every prompt."""

    def __init__(self, model: Model, styles: list[str]):
        super().__init__()
        self.model = model
        self.styles = styles

    def actions(self, state: State, context: ApplicationContext, inputs: dict[str, Any]) -> Generator[RunnableGraph, None, None]:
        for style in self.styles:
            yield drafting(self.model, style)

    def states(self, state: State, context: ApplicationContext, inputs: dict[str, Any]) -> Generator[State, None, None]:
        for prompt in state["prompts"]:
            yield state.update(prompt=prompt)

    def reduce(self, state: State, states: Generator[State, None, None]) -> State:
        best: dict[str, dict[str, Any]] = {}
        for branch in states:
            known = best.get(branch["prompt"])
            if known is None or branch["score"] > known["score"]:
                best[branch["prompt"]] = {"answer": branch["answer"], "score": branch["score"]}
        return state.update(best=best)

    @property
    def reads(self) -> list[str]:
        return ["prompts"]

    @property
    def writes(self) -> list[str]:
        return ["best"]


@action(reads=["best"], writes=["summary"])
def judge(state: State) -> State:
    ranked = sorted(state["best"].items(), key=lambda item: (-item[1]["score"], item[0]))
    return state.update(summary=[prompt for prompt, _ in ranked])


class Translate(MapStates):
    """Asynchronous: one action over the answers."""

    def __init__(self, model: Model):
        super().__init__()
        self.model = model

    def is_async(self) -> bool:
        return True

    def action(self, state: State, inputs: dict[str, Any]) -> Any:
        return translate.bind(model=self.model)

    async def states(self, state: State, context: ApplicationContext, inputs: dict[str, Any]) -> AsyncGenerator[State, None]:
        for prompt in state["summary"]:
            yield state.update(text=state["best"][prompt]["answer"])

    async def reduce(self, state: State, states: AsyncGenerator[State, None]) -> State:
        return state.update(translated=[branch["translation"] async for branch in states])

    @property
    def reads(self) -> list[str]:
        return ["summary", "best"]

    @property
    def writes(self) -> list[str]:
        return ["translated"]


@action(reads=["text"], writes=["translation"])
async def translate(state: State, model: Model) -> State:
    return state.update(translation=model(f"translate {state['text']}"))


class Retell(TaskBasedParallelAction):
    """The tasks by hand: each translation is told again, under an id of its own."""

    def __init__(self, model: Model):
        super().__init__()
        self.model = model

    def tasks(self, state: State, context: ApplicationContext, inputs: dict[str, Any]) -> Generator[SubGraphTask, None, None]:
        for number, text in enumerate(state["translated"]):
            yield SubGraphTask(
                graph=drafting(self.model, inputs["manner"]),
                inputs={},
                state=state.update(prompt=text),
                application_id=f"{context.app_id}-retold-{number}",
                tracker=context.tracker,
            )

    @property
    def inputs(self) -> list[str]:
        return ["manner", *super().inputs]

    def reduce(self, state: State, states: Generator[State, None, None]) -> State:
        return state.update(retold=[branch["answer"] for branch in states])

    @property
    def reads(self) -> list[str]:
        return ["translated"]

    @property
    def writes(self) -> list[str]:
        return ["retold"]


class CountSteps(PostRunStepHook):
    """Counts the steps of every application, branches too: it is their tracker."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def post_run_step(self, *, action: Any, **future_kwargs: Any) -> None:
        self.names.append(action.name)


def play(model: Model, path: str) -> dict:
    import asyncio

    counted = CountSteps()
    app = (
        ApplicationBuilder()
        .with_actions(sweep=Sweep(model, ["short", "long", "odd"]), judge=judge)
        .with_transitions(("sweep", "judge"))
        .with_state(prompts=["what is time", "why is the sky blue", "who goes there"])
        .with_entrypoint("sweep")
        .with_identifiers(app_id="sweep")
        .with_tracker(counted)
        .build()
    )
    _, _, swept = app.run(halt_after=["judge"])
    second = (
        ApplicationBuilder()
        .with_actions(translate=Translate(model))
        .with_transitions(("translate", "translate"))
        .with_state(summary=swept["summary"], best=swept["best"])
        .with_entrypoint("translate")
        .with_identifiers(app_id="translate")
        .build()
    )
    _, _, translated = asyncio.run(second.astep())
    third = (
        ApplicationBuilder()
        .with_actions(retell=Retell(model))
        .with_state(translated=translated["translated"])
        .with_entrypoint("retell")
        .with_identifiers(app_id="retell")
        .with_tracker(counted)
        .build()
    )
    _, _, told = third.step(inputs={"manner": "slowly"})
    return {
        "best": swept["best"],
        "summary": swept["summary"],
        "translated": translated["translated"],
        "retold": told["retold"],
        "steps": sorted(counted.names),
        "sequence_ids": [app.sequence_id, second.sequence_id, third.sequence_id],
    }
