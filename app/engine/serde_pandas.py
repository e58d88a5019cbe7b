"""Data frames of pandas, as Parquet: in a file where Burr keeps it, or in the document itself.

Imported when the first data frame is met, as pandas is slow to import and need not be there. Parquet needs pyarrow.
"""

import base64
import hashlib
import io
import pathlib
from collections.abc import Mapping
from typing import Any

import pandas as pd  # type: ignore[import-untyped]  # pandas ships no types

from app.engine.serde_registry import KEY, deserializer, serialize

__all__ = ["deserialize_pandas_df", "serialize_pandas_df"]

_NAME = "pandas.DataFrame"


@serialize.register(pd.DataFrame)
def serialize_pandas_df(value: pd.DataFrame, pandas_kwargs: Mapping[str, Any] | None = None, **_: Any) -> dict[str, Any]:
    """Return a document for a data frame.

    With a `path` in `pandas_kwargs` the frame is a file in that folder, named for its content; otherwise it is in the document.
    The other `pandas_kwargs` are those of `DataFrame.to_parquet`.
    """
    options = dict(pandas_kwargs or {})
    folder = options.pop("path", None)
    parquet = io.BytesIO()
    value.to_parquet(parquet, **options)
    content = parquet.getvalue()
    if folder is None:
        return {KEY: _NAME, "parquet": base64.b64encode(content).decode()}
    path = pathlib.Path(folder) / f"df_{hashlib.sha256(content).hexdigest()}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return {KEY: _NAME, "path": str(path)}


@deserializer.register(_NAME)
def deserialize_pandas_df(value: Mapping[str, Any], pandas_kwargs: Mapping[str, Any] | None = None, **_: Any) -> pd.DataFrame:
    """Return the data frame of a document. `pandas_kwargs` are those of `pandas.read_parquet`."""
    options = {name: option for name, option in (pandas_kwargs or {}).items() if name != "path"}
    source = io.BytesIO(base64.b64decode(value["parquet"])) if "parquet" in value else value["path"]
    return pd.read_parquet(source, **options)
