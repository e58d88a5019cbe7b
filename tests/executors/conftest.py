from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from dask_cluster import DaskCluster
from rung_bench import SOURCE, Bench, Door
from rung_machine import ACTIONS

from app.executors.ladder import Executors, ExecutorSettings
from app.executors.notices import Notice
from app.executors.rungs import Rung


@pytest.fixture
async def open_bench() -> "AsyncIterator[Callable[..., Any]]":
    """Make a Bench on the given rung; closed after the test."""
    opened: list[Executors] = []

    async def make(rung: str, **settings: Any) -> Bench:
        told: list[Notice] = []
        small = {"threads": 4, "thread_replacements": 2, "processes": 2, "loop_lag_budget_s": None}
        executors = Executors(ExecutorSettings(default=Rung(rung), **{**small, **settings}), notify=told.append)
        executors.register("rung", source=SOURCE, actions=ACTIONS.values())
        opened.append(executors)
        await executors.start()
        return Bench(executors, told, rung)

    yield make
    for executors in opened:
        await executors.close(0.1)


@pytest.fixture(scope="session")
def dask_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskCluster]:
    with DaskCluster(tmp_path_factory.mktemp("dask")) as cluster:
        yield cluster


@pytest.fixture
def door(tmp_path: Path) -> Door:
    return Door(tmp_path)
