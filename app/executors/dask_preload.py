"""What each worker of a local Dask cluster does first: step back behind the service, which answers while they compute."""

import os
from typing import Any

from app.executors.worker import NICENESS

__all__ = ["dask_setup"]


def dask_setup(_worker: Any) -> None:
    """Called by Dask in the worker's process."""
    os.nice(NICENESS)
