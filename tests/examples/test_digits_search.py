"""The search finds the same on every rung, and what it finds is right."""

from functools import lru_cache
from typing import Any

import pytest
from sklearn.svm import SVC

from app.executors.source_check import check_source
from examples import digits_search
from tests.service_process import ROOT

GRID = {"c_values": [1.0, 10.0], "gamma_values": [0.001, 0.01], "folds": 3}


@lru_cache(maxsize=1)
def expected() -> dict[str, Any]:
    """What scikit-learn says without any of us."""
    images, unseen, labels, unseen_labels = digits_search.digits()
    model = SVC(C=1.0, gamma=0.001).fit(images, labels)
    return {"C": 1.0, "gamma": 0.001, "accuracy": model.score(unseen, unseen_labels)}


@pytest.mark.parametrize("rung", ["thread", "process", "dask"])
def test_every_rung_finds_the_same(rung: str) -> None:
    with digits_search.serving(rung) as url:
        state, _, _ = digits_search.search_on(url, GRID)

    found = {"C": state["best"]["C"], "gamma": state["best"]["gamma"], "accuracy": state["accuracy"]}
    assert (found, len(state["results"])) == (expected(), 4)
    assert [(each["C"], each["gamma"]) for each in state["results"]] == [(1.0, 0.001), (1.0, 0.01), (10.0, 0.001), (10.0, 0.01)]
    assert all(0.9 < each["score"] < 1 for each in state["results"] if each["gamma"] == 0.001)


def test_it_does_not_block_the_loop() -> None:
    assert check_source((ROOT / "examples" / "digits_search.py").read_text()) == []
