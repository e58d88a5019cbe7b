"""A search for the best classifier of handwritten digits: scikit-learn's data set, one sub-session per candidate.

`plan` lists the candidates (every pair of `c_values` and `gamma_values`), `search` cross-validates all of them side by
side, `choose` takes the best and tries it on digits that nobody has seen. A session runs through in one go:

    {"machine": "digits_search", "state": {"c_values": [1, 10], "gamma_values": [0.001, 0.01], "folds": 3}}

`evaluate` and `choose` are sync functions that compute, and choose no executor: `--executor` decides. What comes out is the same
on every rung. `python -m examples.digits_search` runs the search on each of them and prints how long it took; the table is
in docs/executors.md. Needs `pip install stepwell[digits]`, and `[dask]` for the last rung.
"""

import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from sklearn.datasets import load_digits
from sklearn.model_selection import StratifiedKFold, cross_val_score, train_test_split
from sklearn.svm import SVC

from app.engine import ApplicationBuilder, State, action
from app.engine.machine import machine
from app.engine.parallelism import MapStates

C_VALUES = [0.1, 1.0, 10.0, 100.0]
GAMMA_VALUES = [0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05]
FOLDS = 5


@lru_cache(maxsize=1)
def digits() -> Any:
    """Return images and labels to learn from, and others to be judged by; the same split in every process."""
    images, labels = load_digits(return_X_y=True)
    return train_test_split(images, labels, test_size=0.25, random_state=0, stratify=labels)


@action(reads=["c_values", "gamma_values", "folds"], writes=["candidates"])
async def plan(state: State[Any]) -> State[Any]:
    """List what there is to try. Raises ValueError for an empty grid, or fewer than two folds."""
    if not state["c_values"] or not state["gamma_values"] or state["folds"] < 2:
        raise ValueError("the grid needs a value of C and of gamma at least, and two folds")
    return state.update(candidates=[{"C": c, "gamma": gamma} for c in state["c_values"] for gamma in state["gamma_values"]])


@action(reads=["candidate", "folds"], writes=["score"])
def evaluate(state: State[Any]) -> State[Any]:
    """Cross-validate one candidate."""
    images, _, labels, _ = digits()
    folds = StratifiedKFold(n_splits=state["folds"])
    scores = cross_val_score(SVC(**state["candidate"]), images, labels, cv=folds)
    return state.update(score=float(scores.mean()))


class Search(MapStates):
    """Evaluates every candidate in an application of its own, side by side."""

    def is_async(self) -> bool:
        return True

    @property
    def reads(self) -> list[str]:
        return ["candidates", "folds"]

    @property
    def writes(self) -> list[str]:
        return ["results"]

    def action(self, _state: State[Any], _inputs: dict[str, Any]) -> Any:
        return evaluate

    async def states(self, state: State[Any], _context: Any, _inputs: dict[str, Any]) -> AsyncGenerator[State[Any], None]:  # type: ignore[override]  # an async generator is one of the kinds that the base takes
        for candidate in state["candidates"]:
            yield State({"candidate": candidate, "folds": state["folds"]})

    async def reduce(self, state: State[Any], states: AsyncIterator[State[Any]]) -> State[Any]:  # type: ignore[override]  # as above
        return state.update(results=[{**each["candidate"], "score": each["score"]} async for each in states])


@action(reads=["results"], writes=["best", "accuracy"])
def choose(state: State[Any]) -> State[Any]:
    """Learn with the best candidate (the first of equals) and be judged by digits that no candidate has seen."""
    best = max(state["results"], key=lambda each: each["score"])
    images, unseen, labels, unseen_labels = digits()
    model = SVC(C=best["C"], gamma=best["gamma"]).fit(images, labels)
    return state.update(best=best, accuracy=float(model.score(unseen, unseen_labels)))


@machine
def digits_search() -> ApplicationBuilder[Any]:
    return (
        ApplicationBuilder()
        .with_actions(plan=plan, search=Search(), choose=choose)
        .with_transitions(("plan", "search"), ("search", "choose"))
        .with_state(c_values=C_VALUES, gamma_values=GAMMA_VALUES, folds=FOLDS)
        .with_entrypoint("plan")
    )


# --- the comparison of the rungs ---------------------------------------------------------------------------------------

RUNGS = ("thread", "auto", "process", "dask")


@contextmanager
def serving(rung: str) -> Any:
    """Serve this file with sync actions on `rung`; yield the address."""
    command = [str(Path(sys.executable).with_name("stepwell")), "serve", f"{Path(__file__)}:digits_search"]
    options = ["--port", "0", "--database-url", "memory://", "--executor", rung, "--log-level", "error"]
    if rung == "dask":
        options += ["--dask", f"local:{os.cpu_count()}"]
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True) as service:  # noqa: S603 - ours
        try:
            assert service.stdout is not None  # noqa: S101 - for the type checker
            yield service.stdout.readline().split()[4]
        finally:
            service.terminate()


def ask(url: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})  # noqa: S310 - our own service
    with urllib.request.urlopen(request) as answer:  # noqa: S310
        return json.load(answer)


def search_on(url: str, state: dict[str, Any]) -> tuple[dict[str, Any], float, float]:
    """Run one search; return the last state, the seconds it took, and the slowest health check meanwhile."""
    session = ask(f"{url}/v1/sessions", {"machine": "digits_search", "state": state})["id"]
    over = threading.Event()
    slowest_s = 0.0

    def watch() -> None:
        nonlocal slowest_s
        while not over.wait(0.02):
            began_s = time.perf_counter()
            ask(f"{url}/healthz")
            slowest_s = max(slowest_s, time.perf_counter() - began_s)

    watcher = threading.Thread(target=watch)
    watcher.start()
    began_s = time.perf_counter()
    try:
        answer = ask(f"{url}/v1/sessions/{session}/runs", {"inputs": {}})
    finally:
        over.set()
        watcher.join()
    return answer["state"], time.perf_counter() - began_s, slowest_s


def main() -> int:
    """Run the search on every rung, three times: the first one pays for the start. Exit code 1 if results differ."""
    found: list[Any] = []
    print(f"{'rung':8} {'first':>8} {'third':>8} {'slowest health check':>22}   best candidate, accuracy on unseen digits")
    for rung in RUNGS:
        with serving(rung) as url:
            state, first_s, _ = search_on(url, {})
            search_on(url, {})
            again, again_s, slowest_s = search_on(url, {})
        found += [(each["results"], each["best"], each["accuracy"]) for each in (state, again)]
        best = f"C={state['best']['C']:g} gamma={state['best']['gamma']:g}, {state['accuracy']:.4f}"
        print(f"{rung:8} {first_s:7.2f}s {again_s:7.2f}s {slowest_s * 1e3:19.1f} ms   {best}", flush=True)
    agree = all(each == found[0] for each in found)
    print("every rung found the same" if agree else "THE RUNGS DISAGREE")
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())
