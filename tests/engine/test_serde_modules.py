"""Reading a stored value imports nothing, and runs nothing on the way to a class."""

import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from app.engine.persistence_ports import PersistedStateData
from app.engine.serde import (
    TAG,
    UndecodableValue,
    UnserializableValue,
    decode,
    deserialize,
    encode,
    permit_modules,
    set_allowlist,
)
from app.engine.state import State
from app.persistence.persisters import SQLAlchemyPersister

MODULE = "never_imported_by_anybody"
SOURCE = """
    import dataclasses

    @dataclasses.dataclass
    class Thing:
        n: int
"""
KINDS: dict[str, Any] = {
    "model": [f"{MODULE}:Thing", {"fields": {}}],
    "dataclass": [f"{MODULE}:Thing", {"n": 1}],
    "enum": [f"{MODULE}:Thing", "A"],
    "namedtuple": [f"{MODULE}:Thing", {"n": 1}],
}


@dataclass
class Here:
    n: int


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / f"{MODULE}.py").write_text(textwrap.dedent(SOURCE))
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop(MODULE, None)
    set_allowlist(None)
    permit_modules(None)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("in_service", [False, True], ids=["alone", "in a service"])
def test_a_stored_value_imports_no_module(kind: str, in_service: bool) -> None:
    if in_service:
        permit_modules()
    with pytest.raises(UndecodableValue, match="not loaded"):
        decode({TAG: [kind, *KINDS[kind]]})
    assert MODULE not in sys.modules


def test_a_model_in_burrs_form_imports_no_module() -> None:
    with pytest.raises(UndecodableValue, match="not loaded"):
        deserialize({"__burr_serde__": "pydantic", "__pydantic_class": f"{MODULE}.Thing"})
    assert MODULE not in sys.modules


def test_modules_that_are_named_are_imported() -> None:
    permit_modules([MODULE])
    thing = decode({TAG: ["dataclass", f"{MODULE}:Thing", {"n": 1}]})
    assert decode(encode(thing)) == thing


def test_a_value_that_the_next_process_could_not_read_is_not_written() -> None:
    permit_modules()
    thing = __import__(MODULE).Thing(1)
    with pytest.raises(UnserializableValue, match="STEPWELL_STATE_MODULES"):
        encode({"thing": thing})
    assert decode(encode(Here(1))) == Here(1)


def test_a_path_runs_no_code_of_a_module_that_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    lazy = ModuleType("lazy_module")
    asked: list[str] = []
    monkeypatch.setattr(lazy, "__getattr__", asked.append, raising=False)
    monkeypatch.setitem(sys.modules, "lazy_module", lazy)
    with pytest.raises(UndecodableValue):
        decode({TAG: ["dataclass", "lazy_module:app", {}]})
    assert asked == []


def test_a_persister_of_a_script_imports_no_module_either(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/states.db"
    persister = SQLAlchemyPersister(url)
    persister.initialize()
    thing = __import__(MODULE).Thing(1)
    persister.save(None, "app", 0, "act", state_of(thing), "completed")
    del sys.modules[MODULE]
    with pytest.raises(Exception, match="never_imported_by_anybody"):
        _ = unpacked(persister.load(None, "app"))["thing"].n
    persister.cleanup()
    assert MODULE not in sys.modules


def state_of(thing: Any) -> Any:
    return State({"thing": thing})


def unpacked(loaded: PersistedStateData | None) -> Any:
    assert loaded is not None
    return loaded["state"]
