"""Data frames are stored as Parquet, in a folder as Burr does it, or in the state itself."""

import pathlib
import subprocess
import sys
from typing import Any

import orjson
import pandas as pd
import pytest
from engines import play

from app.engine import State, serde


@pytest.fixture
def frame() -> pd.DataFrame:
    return pd.DataFrame(
        {"n": [1, 2], "text": ["a", None], "when": pd.to_datetime(["2024-01-01", "2024-06-01"])}, index=["x", "y"]
    )


def test_a_data_frame_goes_through_the_store(frame: pd.DataFrame) -> None:
    back = serde.decode(orjson.loads(orjson.dumps(serde.encode({"table": [frame]}))))["table"][0]
    pd.testing.assert_frame_equal(back, frame)


def test_a_data_frame_is_kept_in_a_folder_as_in_burr(frame: pd.DataFrame, tmp_path: pathlib.Path) -> None:
    def scenario(e: Any) -> Any:
        options = {"pandas_kwargs": {"path": str(tmp_path / e.label)}}
        written = e.State({"table": frame}).serialize(**options)
        back = e.State.deserialize(written, **options)["table"]
        pd.testing.assert_frame_equal(back, frame)
        return sorted(written["table"]), len(list((tmp_path / e.label).iterdir()))

    ours, theirs = play(scenario)
    assert ours == theirs


def test_frames_of_the_same_shape_do_not_share_a_file(tmp_path: pathlib.Path) -> None:
    # Burr names the file for the columns and the shape, so that the second frame replaces the first
    options = {"pandas_kwargs": {"path": str(tmp_path)}}
    states = [State({"table": pd.DataFrame({"n": [number]})}) for number in (1, 2)]
    written = [state.serialize(**options) for state in states]
    assert [State.deserialize(each, **options)["table"]["n"][0] for each in written] == [1, 2]


NOT_NEEDED = "serde.encode({'a': (1, 2)}); assert 'pandas' not in sys.modules"
FRAME_MET = "import pandas; kept = serde.encode(pandas.DataFrame({'a': [1]})); assert serde.decode(kept)['a'][0] == 1"
NAME_MET = """
try:
    serde.deserialize({serde.KEY: "pandas.DataFrame", "path": "nowhere"})
except FileNotFoundError:
    assert "pandas" in sys.modules
"""


@pytest.mark.parametrize("code", [NOT_NEEDED, FRAME_MET, NAME_MET])
def test_pandas_is_imported_when_it_is_needed(code: str) -> None:
    # what the threads of pyarrow do while the interpreter is taken down, abort at times, is not the question
    whole = f"import os, sys\nfrom app.engine import serde\n{code}\nos._exit(0)"
    subprocess.run([sys.executable, "-c", whole], check=True, timeout=60)
