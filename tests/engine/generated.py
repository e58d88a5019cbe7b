"""Machines and call sequences as plain values, strategies that make them, and a player that plays them on either engine.

A played machine leaves a transcript: what each call returned or raised, where the application stood, which hooks were called
with what, and what a persister was given to save. Nothing in it depends on the engine that it was played on.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from hypothesis import strategies as st

__all__ = ["Boom", "Call", "MachineSpec", "Transcript", "calls", "machines", "play_async", "play_sync"]

NUMBERS = ("a", "b", "c")
LISTS = ("log", "trail")
KEYS = NUMBERS + LISTS
TAGS = ("x", "y")

Kind = Literal["function", "class", "streaming function", "streaming class"]
Method = Literal["step", "iterate", "run", "stream_result", "stream_iterate"]


class Boom(Exception):
    """What failing actions raise."""


@dataclass(frozen=True)
class ActionSpec:
    """An action. It adds `by` to its numbers (or sets them, where it cannot read them) and appends `by` to its lists."""

    name: str
    kind: Kind
    is_async: bool
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    tags: tuple[str, ...]
    by: int
    items: int
    gives_result: bool
    required: tuple[str, ...]
    optional: tuple[str, ...]
    fails_above: int | None  # raises Boom when a number that it reads is above this, or always if it reads none


@dataclass(frozen=True)
class EdgeSpec:
    from_: str
    to: str
    condition: str  # "default", or what `condition_of` understands


@dataclass(frozen=True)
class MachineSpec:
    actions: tuple[ActionSpec, ...]
    edges: tuple[EdgeSpec, ...]
    entrypoint: str


@dataclass(frozen=True)
class Call:
    method: Method
    halt_before: tuple[str, ...]
    halt_after: tuple[str, ...]


@dataclass
class Transcript:
    """What a played machine left behind."""

    outcomes: list[Any] = field(default_factory=list)
    hooks: list[tuple[Any, ...]] = field(default_factory=list)
    execute_hooks: list[tuple[Any, ...]] = field(default_factory=list)
    saved: list[tuple[Any, ...]] = field(default_factory=list)
    error: str | None = None


# strategies

_small = st.integers(-3, 5)


def _some(values: tuple[str, ...], min_size: int = 0) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(values), unique=True, min_size=min_size).map(lambda found: tuple(sorted(found)))


@st.composite
def _actions(draw: st.DrawFn, name: str, colours: tuple[bool, ...]) -> ActionSpec:
    kind: Kind = draw(st.sampled_from(["function", "function", "class", "streaming function", "streaming class"]))
    return ActionSpec(
        name=name,
        kind=kind,
        is_async=draw(st.sampled_from(colours)),
        reads=draw(_some(KEYS)),
        writes=draw(_some(KEYS, min_size=1)),
        tags=draw(_some(TAGS)) if "class" not in kind else (),
        by=draw(_small),
        items=draw(st.integers(1 if kind == "streaming class" else 0, 3)),
        gives_result=draw(st.booleans()),
        required=(f"need_{name}",) if draw(st.integers(0, 4)) == 0 else (),
        optional=(f"may_{name}",) if draw(st.integers(0, 4)) == 0 and "class" not in kind else (),
        fails_above=draw(st.none() | st.none() | st.integers(0, 8)),
    )


_conditions = st.one_of(
    st.just("default"),
    st.builds("{}:{}:{}".format, st.sampled_from(["when", "expr", "not"]), st.sampled_from(NUMBERS), _small),
    st.builds("both:{}:{}".format, st.sampled_from(NUMBERS), _small),
)


@st.composite
def machines(draw: st.DrawFn, colours: tuple[bool, ...] = (False,)) -> MachineSpec:
    """Machines of one to four actions in the given colours (True: async)."""
    names = [f"act{index}" for index in range(draw(st.integers(1, 4)))]
    actions = tuple(draw(_actions(name, colours)) for name in names)
    edges: list[EdgeSpec] = []
    with_default: set[str] = set()
    for _ in range(draw(st.integers(0, 6))):
        edge = draw(st.builds(EdgeSpec, st.sampled_from(names), st.sampled_from(names), _conditions))
        if edge.condition == "default":
            if edge.from_ in with_default:
                continue
            with_default.add(edge.from_)
        edges.append(edge)
    return MachineSpec(actions, tuple(edges), draw(st.sampled_from(names)))


@st.composite
def calls(draw: st.DrawFn, spec: MachineSpec, methods: tuple[Method, ...]) -> list[Call]:
    """A few calls. Runs halt before every action that needs an input, and somewhere on each way round."""
    names = [action.name for action in spec.actions]
    tags = {f"@tag:{tag}" for action in spec.actions for tag in action.tags}
    anywhere = st.lists(st.sampled_from([*names, *sorted(tags)]), unique=True, max_size=2).map(tuple)
    needy = tuple(action.name for action in spec.actions if action.required)
    found = []
    for _ in range(draw(st.integers(1, 4))):
        before, after = draw(anywhere), draw(anywhere)
        # a run that halts after every second action cannot go on for ever
        after = (*after, *(name for name in names[::2] if name not in after))
        loops = tuple(name for name in names[1::2] if name not in before)
        method = draw(st.sampled_from(methods))
        if method == "stream_result":  # inputs reach the first step only: one that is streamed later may need none
            after = tuple(name for name in after if name in names and name not in needy)
        found.append(Call(method, tuple(dict.fromkeys((*before, *needy, *loops))), after))
    return found


# building


def _result(spec: ActionSpec, state: Any) -> dict[str, Any]:
    seen = {key: state[key] for key in spec.reads}
    return {"by": spec.by, "seen": repr(seen)} if spec.gives_result or spec.kind != "function" else {}


def _check(spec: ActionSpec, state: Any) -> None:
    if spec.fails_above is None:
        return
    numbers = [state[key] for key in spec.reads if key in NUMBERS]
    if not numbers or max(numbers) > spec.fails_above:
        raise Boom(spec.name)


def _changed(spec: ActionSpec, state: Any, extra: int, readable: tuple[str, ...]) -> Any:
    by = spec.by + extra
    for key in spec.writes:
        if key in LISTS:
            state = state.append(**{key: by})
        elif key in readable:
            state = state.update(**{key: state[key] + by})
        else:
            state = state.update(**{key: by})
    return state


def _extra(inputs: dict[str, Any]) -> int:
    return sum(value for name, value in inputs.items() if name.startswith(("need_", "may_")))


def _function(engine: Any, spec: ActionSpec) -> Any:
    def body(state: Any, inputs: dict[str, Any]) -> Any:
        _check(spec, state)
        after = _changed(spec, state, _extra(inputs), spec.reads)
        return (_result(spec, state), after) if spec.gives_result else after

    def items(state: Any, inputs: dict[str, Any]) -> Iterator[Any]:
        for index in range(spec.items):
            yield {"index": index}, None  # a bare dict is an item, too, but breaks Burr's step
        _check(spec, state)
        yield _result(spec, state), _changed(spec, state, _extra(inputs), spec.reads)

    async def astream(state: Any, inputs: dict[str, Any]) -> AsyncIterator[Any]:
        for item in items(state, inputs):
            yield item

    async def abody(state: Any, inputs: dict[str, Any]) -> Any:
        await asyncio.sleep(0)
        return body(state, inputs)

    streams = spec.kind == "streaming function"
    inner = (astream if spec.is_async else items) if streams else (abody if spec.is_async else body)
    parameters = ", ".join(["state", *spec.required, *(f"{name}=0" for name in spec.optional)])
    given = ", ".join(f"{name!r}: {name}" for name in (*spec.required, *spec.optional))
    if streams:
        loop = "async for" if spec.is_async else "for"
        lines = f"    {loop} item in inner(state, {{{given}}}):\n        yield item"
    else:
        lines = f"    return {'await ' if spec.is_async else ''}inner(state, {{{given}}})"
    scope: dict[str, Any] = {"inner": inner}
    exec(f"{'async ' if spec.is_async else ''}def {spec.name}({parameters}):\n{lines}\n", scope)
    decorate = engine.streaming_action if streams else engine.action
    return decorate(reads=list(spec.reads), writes=list(spec.writes), tags=list(spec.tags))(scope[spec.name])


def _class(engine: Any, spec: ActionSpec) -> Any:
    class Declared:
        reads = property(lambda self: list(spec.reads))
        writes = property(lambda self: list(spec.writes))
        inputs = property(lambda self: list(spec.required))

        def update(self, result: Any, state: Any) -> Any:
            return _changed(spec, state, result.get("extra", 0), tuple(set(spec.reads) | set(spec.writes)))

    def result(state: Any, inputs: dict[str, Any]) -> dict[str, Any]:
        _check(spec, state)
        return {**_result(spec, state), "extra": _extra(inputs)}

    def items(state: Any, inputs: dict[str, Any]) -> Iterator[Any]:
        if spec.fails_above is not None:  # Burr completes a step whose stream fails after an item
            _check(spec, state)
        for index in range(spec.items):
            yield {"index": index}
        yield result(state, inputs)

    if spec.kind == "class":

        class Plain(Declared, engine.Action):  # type: ignore[name-defined, misc]  # either engine's
            if spec.is_async:

                async def run(self, state: Any, **inputs: Any) -> Any:
                    return result(state, inputs)
            else:

                def run(self, state: Any, **inputs: Any) -> Any:
                    return result(state, inputs)

        return Plain().with_name(spec.name)

    base = engine.AsyncStreamingAction if spec.is_async else engine.StreamingAction

    class Streaming(Declared, base):  # type: ignore[valid-type, misc]  # either engine's
        if spec.is_async:

            async def stream_run(self, state: Any, **inputs: Any) -> Any:
                for item in items(state, inputs):
                    yield item
        else:

            def stream_run(self, state: Any, **inputs: Any) -> Any:
                yield from items(state, inputs)

    return Streaming().with_name(spec.name)


def _condition(engine: Any, text: str) -> Any:
    kind, *rest = text.split(":")
    if kind == "default":
        return engine.default
    key, value = rest[0], int(rest[1])
    match kind:
        case "when":
            return engine.when(**{f"{key}__lt": value})
        case "expr":
            return engine.expr(f"{key} % 3 == {value % 3} or {key} > {value} + 2")
        case "not":
            return ~engine.when(**{key: value})
    return engine.when(**{f"{key}__gte": value}) & engine.expr(f"len(log) < {value + 4}")


def _recorder(engine: Any, transcript: Transcript, is_async: bool) -> Any:
    def clean(state: Any) -> dict[str, Any]:
        return {key: value for key, value in state.get_all().items() if not key.startswith("__")}

    def step(name: str, arguments: dict[str, Any]) -> None:
        error = arguments.get("exception")
        transcript.hooks.append(
            (
                name,
                arguments["sequence_id"],
                getattr(arguments["action"], "name", arguments["action"]),
                clean(arguments["state"]) if "state" in arguments else None,
                arguments.get("inputs"),
                arguments.get("result"),
                None if error is None else type(error).__name__,
                arguments.get("item"),
                arguments.get("item_index"),
                arguments["app_id"],
                arguments["partition_key"],
            )
        )

    def call(name: str, arguments: dict[str, Any]) -> None:
        error = arguments.get("exception")
        shown = (arguments["method"].value, clean(arguments["state"]), None if error is None else type(error).__name__)
        transcript.execute_hooks.append((name, *shown))

    recorders = {
        "pre_run_step": ("PreRunStepHook", step),
        "post_run_step": ("PostRunStepHook", step),
        "pre_start_stream": ("PreStartStreamHook", step),
        "post_stream_item": ("PostStreamItemHook", step),
        "post_end_stream": ("PostEndStreamHook", step),
        "pre_run_execute_call": ("PreApplicationExecuteCallHook", call),
        "post_run_execute_call": ("PostApplicationExecuteCallHook", call),
    }
    methods: dict[str, Any] = {}
    for name, (_, record) in recorders.items():

        def method(self: Any, *, _name: str = name, _record: Any = record, **arguments: Any) -> None:
            _record(_name, arguments)

        async def amethod(self: Any, *, _name: str = name, _record: Any = record, **arguments: Any) -> None:
            _record(_name, arguments)

        methods[name] = amethod if is_async else method
    bases = tuple(getattr(engine, base + ("Async" if is_async else "")) for base, _ in recorders.values())
    return type("Recorder", bases, methods)()


def _saver(engine: Any, transcript: Transcript, is_async: bool) -> Any:
    def save(
        self: Any, partition_key: Any, app_id: Any, sequence_id: Any, position: Any, state: Any, status: Any, **_: Any
    ) -> None:
        values = {key: value for key, value in state.get_all().items() if not key.startswith("__")}
        transcript.saved.append((partition_key, app_id, sequence_id, position, values, status))

    async def asave(self: Any, *arguments: Any, **more: Any) -> None:
        save(self, *arguments, **more)

    base = engine.AsyncBaseStateSaver if is_async else engine.BaseStateSaver
    return type("Saver", (base,), {"save": asave if is_async else save})()


def _builder(engine: Any, spec: MachineSpec, transcript: Transcript, is_async: bool) -> Any:
    made = {each.name: _function(engine, each) if "function" in each.kind else _class(engine, each) for each in spec.actions}
    actions = {name: each for name, each in made.items() if callable(each)}
    builder = engine.ApplicationBuilder().with_actions(*(each for each in made.values() if not callable(each)), **actions)
    return (
        builder.with_transitions(*((edge.from_, edge.to, _condition(engine, edge.condition)) for edge in spec.edges))
        .with_state(a=0, b=1, c=2, log=[], trail=[0])
        .with_entrypoint(spec.entrypoint)
        .with_identifiers(app_id="app", partition_key="part")
        .with_hooks(_recorder(engine, transcript, is_async))
        .with_state_persister(_saver(engine, transcript, is_async))
    )


# playing


def _arguments(spec: MachineSpec, application: Any, call: Call) -> dict[str, Any]:
    following = application.get_next_action()
    chosen = next(each for each in spec.actions if each.name == following.name)
    inputs = dict.fromkeys(chosen.required, 2) | {name: 3 for name in chosen.optional if len(call.halt_before) % 2}
    halts = {} if call.method == "step" else {"halt_before": list(call.halt_before), "halt_after": list(call.halt_after)}
    return {**halts, "inputs": inputs}


def _shown(action: Any, result: Any, state: Any) -> tuple[Any, ...]:
    values = {key: value for key, value in state.get_all().items() if not key.startswith("__")}
    return None if action is None else action.name, result, values


def _note(transcript: Transcript, application: Any, entry: Any) -> None:
    transcript.outcomes.append((entry, application.sequence_id, getattr(application.get_next_action(), "name", None)))


def play_wrongly(engine: Any, spec: MachineSpec, method: Method, wrong: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Make a call with wrong arguments. Returns the kind of error that it raised, and the values of the state after it."""
    transcript = Transcript()
    application = _builder(engine, spec, transcript, is_async=False).build()
    kind = "none"
    try:
        _call_sync(application, method, wrong)
    except ValueError:
        kind = "ValueError"
    except Boom:
        kind = "Boom"
    return kind, _shown(None, None, application.state)[2]


def play_sync(engine: Any, spec: MachineSpec, script: list[Call]) -> Transcript:
    """Play the calls until one fails, or nothing is left to do."""
    transcript = Transcript()
    application = _builder(engine, spec, transcript, is_async=False).build()
    for call in script:
        if not application.has_next_action():
            break
        arguments = _arguments(spec, application, call)
        try:
            _note(transcript, application, _call_sync(application, call.method, arguments))
        except Boom as boom:
            transcript.error = str(boom)
            break
    return transcript


def _call_sync(application: Any, method: Method, arguments: dict[str, Any]) -> Any:
    found = getattr(application, method)(**arguments)
    match method:
        case "iterate":
            steps, ending = [], None
            while True:
                try:
                    steps.append(_shown(*next(found)))
                except StopIteration as stop:
                    ending = stop.value
                    break
            return steps, _shown(*ending)
        case "stream_result":
            action, container = found
            items = list(container)
            return items, _shown(action, *container.get())
        case "stream_iterate":
            return [(list(container), _shown(action, *container.get())) for action, container in found]
    return _shown(*found)


async def play_async(engine: Any, spec: MachineSpec, script: list[Call]) -> Transcript:
    """`play_sync` with the async methods and async hooks."""
    transcript = Transcript()
    application = await _builder(engine, spec, transcript, is_async=True).abuild()
    for call in script:
        if not application.has_next_action():
            break
        arguments = _arguments(spec, application, call)
        try:
            _note(transcript, application, await _call_async(application, call.method, arguments))
        except Boom as boom:
            transcript.error = str(boom)
            break
    return transcript


async def _call_async(application: Any, method: Method, arguments: dict[str, Any]) -> Any:
    found = getattr(application, f"a{method}")(**arguments)
    match method:
        case "iterate":
            return [_shown(*each) async for each in found]
        case "stream_result":
            action, container = await found
            items = [item async for item in container]
            return items, _shown(action, *await container.get())
        case "stream_iterate":
            return [
                ([item async for item in container], _shown(action, *await container.get())) async for action, container in found
            ]
    return _shown(*await found)
