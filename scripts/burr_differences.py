"""Where this engine is not like Burr 0.43, and why: names, parameters, behaviour. Read by `burr_parity`."""

ELSEWHERE: dict[str, str] = {
    "burr.core.state.FIELD_SERIALIZATION": "app.engine.serde.FIELD_SERIALIZATION",
    "burr.visibility.tracing.create_span_id": "app.engine.tracing.create_span_id",
}

_INSIDE = "inside of Burr; nothing that an application calls"

NOT_HERE: dict[str, str] = {
    "burr.core.application.PRIOR_STEP": "the position is kept beside the state, not among the user's keys",
    "burr.core.application.SEQUENCE_ID": "the position is kept beside the state, not among the user's keys",
    "burr.core.application.TracerFactoryContextHook": _INSIDE,
    "burr.core.application.ApplicationBuilder.reset_to_entrypoint": "`resume_at_next_action=False` of `initialize_from` says it",
    "burr.core.validation.BASE_ERROR_MESSAGE": "errors have no banner",
    "burr.lifecycle.internal.ASYNC_HOOK": _INSIDE,
    "burr.lifecycle.internal.InvalidLifecycleHook": "only makers of new kinds of hooks could meet it",
    "burr.lifecycle.internal.REGISTERED_ASYNC_HOOKS": "`app.engine.hook_moments.HOOK_NAMES` names the moments",
    "burr.lifecycle.internal.REGISTERED_SYNC_HOOKS": "`app.engine.hook_moments.HOOK_NAMES` names the moments",
    "burr.lifecycle.internal.SYNC_HOOK": _INSIDE,
    "burr.lifecycle.internal.lifecycle": "`app.engine.hook_moments.hook` declares a class of hooks",
    "burr.lifecycle.internal.validate_hook_fn": _INSIDE,
    "burr.integrations.serde.pydantic.SecurityWarning": "only models, dataclasses, enums and named tuples are ever loaded",
    "burr.integrations.serde.pydantic.deserialize_pydantic": "`deserialize` does it",
    "burr.integrations.serde.pydantic.serialize_pydantic": "`serialize` does it",
}

DIFFERENCES: dict[str, str] = {
    "burr.core.application.Application": "applications are made by a builder or a blueprint, in Burr too",
    "burr.core.parallelism.MapStates.reduce": "called by position; the name is that of the other classes",
    "burr.lifecycle.default.StateAndResultsFullLogger.pre_run_step": "tells the steps of runs that overlap apart",
    "burr.lifecycle.default.StateAndResultsFullLogger.post_run_step": "tells the steps of runs that overlap apart",
}

BEHAVIOUR: tuple[tuple[str, str, str], ...] = (
    (
        "sync action in an async run",
        "hooks and persisters get the state from before it; the event loop stands still",
        "they get the state after it; it runs in a thread, with one `BlockingActionWarning`",
    ),
    (
        "mixing sync and async",
        "most combinations do something unexpected without a word",
        "the eight rows of [sync-and-async.md](sync-and-async.md): silent, a warning, or an error",
    ),
    (
        "hooks around a call",
        "`iterate` calls both before the first step; after a failure `exception` is None",
        "one before the first step, one after the last; `exception` is what was raised",
    ),
    (
        "hooks around a stream",
        "the call ends before the stream in sync runs, after it in async ones; `astream_result` is called `stream_result`",
        "step, stream, call, in both colours; the method by its name",
    ),
    (
        "a stream or `iterate` that is left early",
        "hooks see a `GeneratorExit`, or nothing",
        "the step is abandoned; hooks see `RunAbandoned`",
    ),
    (
        "a stream whose run ends elsewhere",
        "the last action runs again, or a TypeError",
        "the last action with its result, and no items",
    ),
    (
        "inputs of a run",
        "offered to every step",
        "reach the first step, as Burr's documentation says",
    ),
    (
        "a streaming action in `step` or `run`",
        "breaks on items without a state",
        "runs to its end; in an async run a sync one runs in a thread",
    ),
    (
        "context of an outer application",
        "gone after an inner one has run",
        "stays",
    ),
    (
        "colour of a hook",
        "that of its base class: an async method under a sync class is never awaited",
        "async if the class or the method is; never both",
    ),
    (
        "what an action sees",
        "a single-step action sees the whole state",
        "the keys that it declares to read; another one is an error that names key and action",
    ),
    (
        "what an action writes",
        "a single-step action may write anything",
        "what it declares, all of it and nothing else; otherwise the step is an error and nothing is kept",
    ),
    ("inputs that nobody takes", "dropped", "an error before anything runs, with the name that was probably meant"),
    ("number of a failed step", "used up", "used again: a failure does not move an application"),
    ("`parent_pointer` of a resumed application", "a pointer to nothing", "None: it is no fork"),
    (
        "`initialize_from` with `resume_at_next_action=False`",
        "goes on after the last action all the same, as the saved state holds the position",
        "begins at `default_entrypoint`",
    ),
    (
        "position",
        "`__PRIOR_STEP` and `__SEQUENCE_ID` are keys of the state",
        "kept beside it; a state has the user's keys. Where `with_state` is given them, an application stands there",
    ),
    ("`expr`", "evaluated as Python", "interpreted: no names but keys and harmless builtins"),
    (
        "an `expr` that fails on a state",
        "the error leaves, with a value of the state in its text",
        "a ConditionError that names the expression and the kind of error",
    ),
    ("a StopIteration that an action raises", "leaves `step`; elsewhere a RuntimeError", "a RuntimeError that names the action"),
    ("error messages", "print the state, and a banner", "name action, key and expectation, never a value"),
    (
        "saved values",
        "tuples, sets, dates and unknown types become text",
        "come back as they were; an unknown type is refused by stores, and becomes text with a warning in `serialize`",
    ),
    ("pickled values", "bytes, on which `json` fails", "text; only registered types are accepted back"),
    (
        "classes named in saved values",
        "any, with a warning",
        "models, dataclasses, enums and named tuples only; `set_allowlist` narrows that to modules",
    ),
    ("`partition_key=None`", "fails in some persisters", "a partition like any other"),
    ("`InMemoryPersister.list_app_ids`", "lists what was only asked for", "lists what was saved"),
    ("`SQLitePersister`", "orders by whole seconds", "by the order of writing; a step that fails may be saved again"),
    ("`action` of span hooks", "an Action object with `__tracer`, a name with `@trace`", "a name"),
    (
        "span hooks in an async run",
        "by a plain `with`, by `@trace` and by `log_attributes`: sync ones hold the event loop, async ones are skipped",
        "both called in order, off the loop, as soon as the action waits, and at the latest when it is over",
    ),
    ("spans of an application inside an action", "children of the outer span, under its name", "a tree of their own"),
    (
        "a failing branch of a parallel action",
        "the others run to their end; one error is raised",
        "the others are stopped; one error is raised as it is, several as an `ExceptionGroup`",
    ),
    (
        "ids of branches",
        "the same in every round of a loop, so that saved ones of the first stand for all",
        "the same for the same step only, so that an interrupted one goes on and a new one begins",
    ),
    (
        "inputs of a parallel action",
        "`map_reduce_action(inputs=…)` is ignored",
        "taken, and handed on to the branches that take them",
    ),
    (
        "models in actions",
        "share lists and models with the state: a failing action may have changed it",
        "are copies",
    ),
    ("`state.data` in an action", "needs the whole state", "has what the action reads; another field is an AttributeError"),
    ("`with_tracker`", "feeds Burr's UI", "`local` writes a log to a folder; any adapter can be given; no `use_otel_tracing`"),
    ("`visualize`", "a `graphviz.Digraph`, or None", "a `Drawing` with `source`, `mermaid`, `svg`, `render` and `pipe`"),
    ("a graph with a probable mistake", "built", "built, with a `GraphWarning`; `with_validation` refuses it or does not look"),
)
