"""The state machine: everything that a machine, a script or a host needs is importable from here. Imports nothing else of `app`."""

from app.engine.actions import DEFAULT_SCHEMA, Action, Function, Input, Reducer, Result, SingleStepAction, type_eraser
from app.engine.application import Application
from app.engine.blueprint import Blueprint
from app.engine.builder import ApplicationBuilder
from app.engine.conditions import Condition, default, expr, lmda, on_error, safe_expr, when
from app.engine.context import ApplicationContext, ApplicationIdentifiers
from app.engine.function_actions import (
    FunctionBasedAction,
    FunctionBasedStreamingAction,
    FunctionRepresentingAction,
    action,
    bind,
    create_action,
    streaming_action,
)
from app.engine.graph import ApplicationGraph, Graph, GraphBuilder, Transition
from app.engine.hooks import ExecuteMethod, PostRunStepHook, PostRunStepHookAsync, PreRunStepHook, PreRunStepHookAsync
from app.engine.machine import Machine, machine
from app.engine.mode_warnings import BlockingActionWarning, MixedModeWarning
from app.engine.retry import Retry
from app.engine.state import State
from app.engine.streaming import (
    AsyncStreamingAction,
    AsyncStreamingResultContainer,
    SingleStepStreamingAction,
    StreamingAction,
    StreamingResultContainer,
)
