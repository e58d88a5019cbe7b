"""The first lines that `stepwell serve` prints: where the service is, what it hosts, where it stores, and how to try it."""

import inspect
import json
import re
import secrets
import shlex
from collections.abc import Sequence
from importlib.metadata import version
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from app.engine.actions import Action
from app.engine.machine import Machine
from app.settings import Settings

__all__ = ["banner", "curl_line", "without_password"]

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_FILE_URL = re.compile(r"(?P<scheme>sqlite(\+\w+)?:///)(?P<place>[^?]*)(\?(?P<query>.*))?", re.DOTALL)
_SERVER_URL = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)"
    r"(?P<account>(?P<user>[^:@/?#]*)(:(?P<password>[^@/?#]*))?@)?"
    r"(?P<place>(\[[0-9A-Fa-f:.]+\]|[\w.-]*)(:\d{1,5})?(/[^@?#:]*)?)"
    r"(\?(?P<query>[^@?#]*))?",
    re.DOTALL,
)
_KNOWN_PARAMETERS = frozenset({"host", "port", "ssl", "sslmode", "connect_timeout", "application_name", "search_path"})
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
    """Return the url with *** for its password, wherever it stands in it, and for the values of parameters that are not known.

    Of a url that can be read in two ways, as one with an @ in its password, only the scheme is shown.
    """
    if database_url.partition("?")[0] in ("memory:", "memory://"):
        return database_url.partition("?")[0]
    found = _FILE_URL.fullmatch(database_url) or _SERVER_URL.fullmatch(database_url)
    if found is None:
        scheme = _SCHEME.match(database_url)
        return f"{scheme[0]}***" if scheme else "***"
    parts = {name: part or "" for name, part in found.groupdict().items()}
    password = ":***" if parts.get("password") else ""
    user = f"{parts['user']}{password}@" if "user" in parts and found["account"] else ""
    query = "&".join(map(_shown_parameter, parts["query"].split("&"))) if parts["query"] else ""
    return f"{parts['scheme']}{user}{parts['place']}{'?' if query else ''}{query}"


def _shown_parameter(parameter: str) -> str:
    name, equals, _ = parameter.partition("=")
    if name in _KNOWN_PARAMETERS:
        return parameter
    return f"{name}=***" if equals and name.isidentifier() else "***"


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
