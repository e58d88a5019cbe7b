"""The state machine: everything that a machine, a script or a host needs can be imported from here.

The engine imports nothing else of `app`. Each subject has a module of its own, which exports the same names.
"""

from app.engine.actions import (
    DEFAULT_SCHEMA,
    Action,
    Function,
    Input,
    Reducer,
    Result,
    SingleStepAction,
    type_eraser,
)
from app.engine.application import Application
from app.engine.blueprint import Blueprint
from app.engine.builder import ApplicationBuilder
from app.engine.conditions import (
    Condition,
    OnError,
    default,
    expr,
    lmda,
    on_error,
    safe_expr,
    when,
)
from app.engine.context import ApplicationContext, ApplicationIdentifiers
from app.engine.deltas import (
    AppendFields,
    DeleteField,
    ExtendFields,
    IncrementFields,
    SetFields,
    StateDelta,
)
from app.engine.errors import (
    ActionTimeout,
    AsyncActionInSyncRun,
    BuildError,
    ConditionError,
    EngineError,
    GraphError,
    InvalidInputs,
    InvalidResult,
    MissingWrite,
    MixedModeError,
    NothingToRun,
    OperationError,
    RunAbandoned,
    UndeclaredRead,
    UndeclaredWrite,
    UninitializedPersister,
    UnknownAction,
    UnknownKey,
    UnknownTag,
    UnsafeExpression,
)
from app.engine.function_actions import (
    FunctionBasedAction,
    FunctionBasedActionType,
    FunctionBasedStreamingAction,
    FunctionRepresentingAction,
    action,
    bind,
    copy_func,
    create_action,
    derive_inputs_from_fn,
    streaming_action,
)
from app.engine.graph import (
    ApplicationGraph,
    Graph,
    GraphBuilder,
    Transition,
)
from app.engine.hook_defaults import SlowDownHook, StateAndResultsFullLogger, safe_json
from app.engine.hook_moments import HOOK_NAMES
from app.engine.hook_set import HookSet, LifecycleAdapter, LifecycleAdapterSet
from app.engine.hooks import (
    ExecuteMethod,
    PostApplicationCreateHook,
    PostApplicationExecuteCallHook,
    PostApplicationExecuteCallHookAsync,
    PostRunStepHook,
    PostRunStepHookAsync,
    PreApplicationExecuteCallHook,
    PreApplicationExecuteCallHookAsync,
    PreRunStepHook,
    PreRunStepHookAsync,
)
from app.engine.machine import (
    Machine,
    MachineOptions,
    MachineRejected,
    machine,
)
from app.engine.map_reduce import PassThroughMapActionsAndStates, map_reduce_action
from app.engine.mode_warnings import BlockingActionWarning, MixedModeWarning, StreamErrorWarning
from app.engine.operations import (
    Append,
    Delete,
    Extend,
    Increment,
    Operation,
    Set,
    apply_all,
)
from app.engine.parallel_tasks import BranchStopped, RunnableGraph, SubGraphTask
from app.engine.parallelism import (
    MapActions,
    MapActionsAndStates,
    MapStates,
    SyncOrAsyncGenerator,
    SyncOrAsyncGeneratorOrItemOrList,
    SyncOrAsyncIterable,
    TaskBasedParallelAction,
)
from app.engine.persistence_ports import (
    AsyncBaseStateLoader,
    AsyncBaseStatePersister,
    AsyncBaseStateSaver,
    BaseCopyable,
    BaseStateLoader,
    BaseStatePersister,
    BaseStateSaver,
    PersistedStateData,
    PersisterHook,
    PersisterHookAsync,
)
from app.engine.persisters import (
    AsyncDevNullPersister,
    AsyncInMemoryPersister,
    DevNullPersister,
    InMemoryPersister,
)
from app.engine.placeholder import Placeholder
from app.engine.pointers import ParentPointer
from app.engine.ports import (
    ActionOutcome,
    BlockingCall,
    HaltReason,
    ItemStreamed,
    RunPorts,
    RunResult,
    Step,
    StepBegun,
    StepEvent,
    StepFailure,
)
from app.engine.pydantic import (
    PydanticActionSchema,
    PydanticTypingSystem,
    merge_to_state,
    model_from_state,
    model_to_dict,
    pydantic_action,
    pydantic_streaming_action,
    subset_model,
)
from app.engine.retry import Retry
from app.engine.serde import (
    LossySerializationWarning,
    StringDispatch,
    UndecodableValue,
    UnserializableValue,
    deserialize,
    deserializer,
    register_field_serde,
    serialize,
    set_allowlist,
)
from app.engine.serde_pickle import register_type_to_pickle
from app.engine.span_hooks import (
    DoLogAttributeHook,
    DoLogAttributeHookAsync,
    PostEndSpanHook,
    PostEndSpanHookAsync,
    PreStartSpanHook,
    PreStartSpanHookAsync,
)
from app.engine.sqlite_persisters import AsyncSQLitePersister, SQLitePersister, SQLLitePersister
from app.engine.sqlite_rows import MissingTable, StepTaken
from app.engine.state import State
from app.engine.stream_hooks import (
    PostEndStreamHook,
    PostEndStreamHookAsync,
    PostStreamItemHook,
    PostStreamItemHookAsync,
    PreStartStreamHook,
    PreStartStreamHookAsync,
)
from app.engine.streaming import (
    AsyncStreamingAction,
    AsyncStreamingResultContainer,
    SingleStepStreamingAction,
    StreamingAction,
    StreamingResultContainer,
)
from app.engine.testing import load_test_cases, pytest_generate_tests
from app.engine.traced_functions import trace
from app.engine.tracing import ActionSpan, ActionSpanTracer, TracerFactory
from app.engine.tracking import LocalTrackingClient
from app.engine.typing import (
    ActionSchema,
    DefaultSchema,
    DictBasedTypingSystem,
    TypingSystem,
)
from app.engine.validation import (
    Finding,
    FindingKind,
    GraphWarning,
    InvalidGraph,
    assert_set,
    validate,
)
from app.engine.visualize import Drawing, DrawingError, draw

# fmt: off
__all__ = [
    "DEFAULT_SCHEMA", "HOOK_NAMES", "Action", "ActionOutcome", "ActionSchema", "ActionSpan", "ActionSpanTracer",
    "ActionTimeout", "Append", "AppendFields", "Application", "ApplicationBuilder", "ApplicationContext",
    "ApplicationGraph", "ApplicationIdentifiers", "AsyncActionInSyncRun", "AsyncBaseStateLoader", "AsyncBaseStatePersister",
    "AsyncBaseStateSaver", "AsyncDevNullPersister", "AsyncInMemoryPersister", "AsyncSQLitePersister",
    "AsyncStreamingAction", "AsyncStreamingResultContainer", "BaseCopyable", "BaseStateLoader", "BaseStatePersister",
    "BaseStateSaver", "BlockingActionWarning", "BlockingCall", "Blueprint", "BranchStopped", "BuildError", "Condition",
    "ConditionError", "DefaultSchema", "Delete", "DeleteField", "DevNullPersister", "DictBasedTypingSystem",
    "DoLogAttributeHook", "DoLogAttributeHookAsync", "Drawing", "DrawingError", "EngineError", "ExecuteMethod", "Extend",
    "ExtendFields", "Finding", "FindingKind", "Function", "FunctionBasedAction", "FunctionBasedActionType",
    "FunctionBasedStreamingAction", "FunctionRepresentingAction", "Graph", "GraphBuilder", "GraphError", "GraphWarning",
    "HaltReason", "HookSet", "InMemoryPersister", "Increment", "IncrementFields", "Input", "InvalidGraph", "InvalidInputs",
    "InvalidResult", "ItemStreamed", "LifecycleAdapter", "LifecycleAdapterSet", "LocalTrackingClient",
    "LossySerializationWarning", "Machine", "MachineOptions", "MachineRejected", "MapActions", "MapActionsAndStates",
    "MapStates", "MissingTable", "MissingWrite", "MixedModeError", "MixedModeWarning", "NothingToRun", "OnError",
    "Operation", "OperationError", "ParentPointer", "PassThroughMapActionsAndStates", "PersistedStateData", "PersisterHook",
    "PersisterHookAsync", "Placeholder", "PostApplicationCreateHook", "PostApplicationExecuteCallHook",
    "PostApplicationExecuteCallHookAsync", "PostEndSpanHook", "PostEndSpanHookAsync", "PostEndStreamHook",
    "PostEndStreamHookAsync", "PostRunStepHook", "PostRunStepHookAsync", "PostStreamItemHook", "PostStreamItemHookAsync",
    "PreApplicationExecuteCallHook", "PreApplicationExecuteCallHookAsync", "PreRunStepHook", "PreRunStepHookAsync",
    "PreStartSpanHook", "PreStartSpanHookAsync", "PreStartStreamHook", "PreStartStreamHookAsync", "PydanticActionSchema",
    "PydanticTypingSystem", "Reducer", "Result", "Retry", "RunAbandoned", "RunPorts", "RunResult", "RunnableGraph",
    "SQLLitePersister", "SQLitePersister", "Set", "SetFields", "SingleStepAction", "SingleStepStreamingAction",
    "SlowDownHook", "State", "StateAndResultsFullLogger", "StateDelta", "Step", "StepBegun", "StepEvent", "StepFailure",
    "StepTaken", "StreamErrorWarning", "StreamingAction", "StreamingResultContainer", "StringDispatch", "SubGraphTask",
    "SyncOrAsyncGenerator", "SyncOrAsyncGeneratorOrItemOrList", "SyncOrAsyncIterable",
    "TaskBasedParallelAction", "TracerFactory", "Transition", "TypingSystem", "UndeclaredRead", "UndeclaredWrite",
    "UndecodableValue", "UninitializedPersister", "UnknownAction", "UnknownKey", "UnknownTag", "UnsafeExpression",
    "UnserializableValue", "action", "apply_all", "assert_set", "bind", "copy_func", "create_action", "default",
    "derive_inputs_from_fn", "deserialize", "deserializer", "draw", "expr", "lmda", "load_test_cases", "machine",
    "map_reduce_action", "merge_to_state", "model_from_state", "model_to_dict", "on_error", "pydantic_action",
    "pydantic_streaming_action", "pytest_generate_tests", "register_field_serde", "register_type_to_pickle", "safe_expr",
    "safe_json", "serialize", "set_allowlist", "streaming_action", "subset_model", "trace", "type_eraser", "validate",
    "when",
]
# fmt: on
