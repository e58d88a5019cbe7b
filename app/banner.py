"""The first lines that `stepwell serve` prints: where the service is, what it hosts, where it stores, and how to try it."""

import inspect
import json
import secrets
import shlex
from collections.abc import Sequence
from importlib.metadata import version
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from app.engine.actions import Action
from app.engine.machine import Machine
from app.settings import Settings

__all__ = ["banner", "curl_line", "without_password"]

_SAMPLES: dict[Any, Any] = {str: "hello", int: 1, float: 1.5, bool: True, list: [], dict: {}, NoneType: None}


def banner(address: str, machines: Sequence[Machine], settings: Settings) -> str:
    """Return the lines, without a newline at the end."""
    width = max(len(machine.name) for machine in machines)
    lines = [f"Stepwell {version('stepwell')} listens on {address} (see {address}/docs)"]
    lines += [f"  machine  {machine.name:{width}}  {_actions(machine, settings)}" for machine in machines]
    lines += [f"  database {without_password(settings.database_url)}"]
    lines += ["Create a session and take its first step:", f"  {curl_line(address, machines[0])}"]
    return "\n".join(lines)


def without_password(database_url: str) -> str:
    """Return the url with *** for its password, wherever it stands in it."""
    try:
        url = make_url(database_url)
    except (ArgumentError, ValueError):  # the second for a port, which may be a piece of a password that was not encoded
        scheme, separator, _ = database_url.partition("://")
        return f"{scheme}://***" if separator else "***"
    hidden = {name: "***" for name in url.query if "password" in name}
    return url.update_query_dict(hidden).render_as_string(hide_password=True)


def curl_line(address: str, machine: Machine) -> str:
    """Return one line for a shell that makes a session of `machine` and takes a step with inputs that fit by their types."""
    session = f"try-{secrets.token_hex(3)}"
    inputs = sample_inputs(machine.blueprint.graph.get_action(machine.blueprint.entrypoint))
    create = _post(f"{address}/v1/sessions", {"machine": machine.name, "id": session})
    step = _post(f"{address}/v1/sessions/{session}/steps", {"inputs": inputs} if inputs else {})
    return f"{create} && echo && {step}"


def sample_inputs(action: Action | None) -> dict[str, Any]:
    """Return a value for each input that `action` requires, after the type of its parameter."""
    if action is None:
        return {}
    required, _ = action.optional_and_required_inputs
    hints = _hints(getattr(action, "fn", None))
    return {name: _sample(hints.get(name, str)) for name in sorted(required) if not name.startswith("__")}


def _hints(function: Any) -> dict[str, Any]:
    try:
        return get_type_hints(function) if inspect.isfunction(function) else {}
    except Exception:  # the border to the user's annotations: they may name what does not exist at run time
        return {}


def _sample(hint: Any) -> Any:
    for choice in get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,):
        if get_origin(choice) is Literal:
            return get_args(choice)[0]
        plain = get_origin(choice) or choice
        if plain in _SAMPLES:
            return _SAMPLES[plain]
    return "hello"


def _post(url: str, body: Any) -> str:
    return f"curl -s {url} -H 'Content-Type: application/json' -d {shlex.quote(json.dumps(body, default=str))}"


def _actions(machine: Machine, settings: Settings) -> str:
    chosen = machine.options.executor or settings.executor
    actions = machine.blueprint.graph.actions
    return ", ".join(f"{each.name} ({each.executor or ('loop' if each.is_async() else chosen)})" for each in actions)
