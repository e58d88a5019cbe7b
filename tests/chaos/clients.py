"""Clients as they should be: patient, with keys where they ask again, and at whichever replica answers.

Each kind works on sessions of its own until it is told to stop, and then brings to its end what it has begun.
"""

import asyncio
import random
import time
import uuid
from typing import Any

import httpx

from tests.chaos.witness import LAST, Witness
from tests.sse import events

__all__ = ["Callers"]

PATIENCE_S = 300.0  # for one request, with all that it takes to ask again
ANSWER_LIMIT_S = 15.0  # after which another replica is asked: a frozen one never says that it is
LONGEST_THOUGHT_S = 2.5
END_LIMIT_S = 120.0  # for everything that was asked for to be answered when there is no more harm


class GaveUp(Exception):
    """A request was not answered for so long that no client would wait."""


class Callers:
    """All clients of one test, of the replicas at `urls`, `count` of them with a session each."""

    def __init__(self, urls: list[str], witness: Witness, chance: random.Random) -> None:
        self._urls = urls
        self._witness = witness
        self._chance = chance
        self._is_over = asyncio.Event()
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=200)
        self._http = httpx.AsyncClient(timeout=ANSWER_LIMIT_S, limits=limits, verify=False, trust_env=False)
        self._tasks: list[asyncio.Task[None]] = []
        self._followers: list[asyncio.Task[None]] = []

    async def start(self, count: int) -> None:
        """Create the sessions, and let a client of one kind or another work on each."""
        kinds = (
            self._steps,
            self._steps,
            self._waits,
            self._streams,
            self._polls,
            self._follows_runs,
            self._careless,
            self._quarrels,
        )
        sessions = [f"{kinds[number % len(kinds)].__name__.strip('_')}-{number}" for number in range(count)]
        await asyncio.gather(*map(self._create, sessions))
        for number, session in enumerate(sessions):
            self._tasks.append(self._let(kinds[number % len(kinds)], session))
            if number % 9 == 0 or session.startswith("quarrels"):
                self._followers.append(self._let(self._follow, session))

    async def stop(self) -> None:
        """Return when each client has had its last answer; one that waits for ever is noted."""
        self._is_over.set()
        _, waiting = await asyncio.wait(self._tasks, timeout=END_LIMIT_S)
        self._witness.wrong += [f"{task.get_name()} still waits {END_LIMIT_S} s after the last harm" for task in waiting]

    async def aclose(self) -> None:
        """Break off everything, followers too."""
        for task in (*self._tasks, *self._followers):
            task.cancel()
        await asyncio.gather(*self._tasks, *self._followers, return_exceptions=True)
        await self._http.aclose()

    def _let(self, kind: Any, session: str) -> asyncio.Task[None]:
        async def works() -> None:
            try:
                await kind(session)
            except Exception as exc:  # the border of a task that is awaited at the end only
                self._witness.wrong.append(f"{kind.__name__.strip('_')} of {session}: {type(exc).__name__}: {exc}")

        return asyncio.create_task(works(), name=f"{kind.__name__.strip('_')} of {session}")

    # kinds of clients

    async def _steps(self, session: str) -> None:
        """One step after the other."""
        while not self._is_over.is_set():
            answer = await self._post(f"/v1/sessions/{session}/steps", {}, _key())
            self._tell(session, answer.json())
            self._witness.wanted[session] += 1
            await self._think()

    async def _waits(self, session: str) -> None:
        """Runs that are waited for."""
        while not self._is_over.is_set():
            asked = self._chance.randint(1, 6)
            answer = await self._post(f"/v1/sessions/{session}/runs", {"max_steps": asked}, _key())
            self._tell(session, answer.json())
            self._count(session, answer.json()["run_id"], asked, answer.json()["steps"])
            await self._think()

    async def _streams(self, session: str) -> None:
        """Runs that are followed as they go, and picked up where they broke off."""
        while not self._is_over.is_set():
            asked = self._chance.randint(2, 12)
            run_id, steps = await self._streamed(session, asked)
            self._count(session, run_id, asked, steps)
            await self._think()

    async def _polls(self, session: str) -> None:
        """Runs in the background, of which one asks from time to time."""
        while not self._is_over.is_set():
            asked = self._chance.randint(1, 10)
            run_id = await self._accepted(session, asked)
            until_s = time.monotonic() + PATIENCE_S
            while (run := (await self._ask("GET", f"/v1/runs/{run_id}")).json())["finished_at"] is None:
                if time.monotonic() > until_s:
                    raise GaveUp(f"run {run_id} is {run['status']} for ever")
                await asyncio.sleep(0.3)
            self._witness.ran(run_id, run["status"], run["steps"])
            self._count(session, run_id, asked, run["steps"])

    async def _follows_runs(self, session: str) -> None:
        """Runs in the background that are followed."""
        while not self._is_over.is_set():
            asked = self._chance.randint(1, 10)
            run_id = await self._accepted(session, asked)
            steps = await self._followed(session, run_id, [])
            assert steps is not None, f"run {run_id} was accepted, and is unknown"
            self._count(session, run_id, asked, steps)

    async def _careless(self, session: str) -> None:
        """Steps without a key: when there is no answer, whether it was carried out is not known, and is not asked."""
        while not self._is_over.is_set():
            try:
                answer = await self._http.post(f"{self._any()}/v1/sessions/{session}/steps", json={"on_busy": "enqueue"})
            except httpx.TransportError:
                await asyncio.sleep(0.2)
            else:
                self._note("POST steps", answer)
                if answer.status_code == 200:
                    self._tell(session, answer.json())
                elif answer.status_code != 503:
                    self._wrong("careless", answer)
            await self._think()

    async def _quarrels(self, session: str) -> None:
        """Two clients of one session that push each other aside, and edit and cancel as well."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._quarrel(session))
            group.create_task(self._quarrel(session))

    async def _quarrel(self, session: str) -> None:
        chance = self._chance
        while not self._is_over.is_set():
            body = {
                "max_steps": chance.randint(1, 8),
                "on_busy": chance.choice(("reject", "enqueue", "interrupt", "rollback")),
                "durability": chance.choice(("sync", "async", "exit")),
            }
            headers = {"Prefer": "respond-async"} if chance.random() < 0.3 else {}
            try:
                answer = await self._http.post(f"{self._any()}/v1/sessions/{session}/runs", json=body, headers=headers)
                self._note("POST runs", answer)
                if answer.status_code == 200:
                    self._tell(session, answer.json())
                elif answer.status_code == 202:
                    self._witness.accepted[answer.json()["id"]] = session
                    if chance.random() < 0.3:
                        cancelled = await self._http.post(f"{self._any()}/v1/runs/{answer.json()['id']}/cancel")
                        self._note("POST cancel", cancelled)
                elif answer.status_code == 409 or (answer.status_code == 424 and answer.json()["type"].endswith("run-failed")):
                    pass  # busy, cancelled, or failed for want of a database
                elif answer.status_code != 503:
                    self._wrong("quarrels", answer)
            except httpx.TransportError:
                await asyncio.sleep(0.2)
            await self._think()

    async def _follow(self, session: str) -> None:
        """Follow a session all the time, at one replica after the other; it must look like one unbroken stream."""
        seen, finished = self._witness.events[session], self._witness.followed[session]
        over: set[str] = set()
        while True:
            headers = {"Last-Event-ID": str(seen[-1] if seen else 0)}
            try:
                async with self._http.stream("GET", f"{self._any()}/v1/sessions/{session}/events", headers=headers) as answer:
                    if answer.status_code != 200:
                        self._note("GET events", answer)
                        await asyncio.sleep(0.2)
                        continue
                    async for event_id, kind, data in events(answer):
                        seen.append(event_id)
                        self._witness.saw(over, event_id, kind, data)
                        if kind == "step.finished":
                            finished.append(data["seq"])
                        if self._chance.random() < 0.01:
                            break  # and resume elsewhere
                if seen and self._chance.random() < 0.1:
                    await self._look_back(session, seen[-1])
            except httpx.TransportError:
                await asyncio.sleep(0.2)

    async def _look_back(self, session: str, through: int) -> None:
        """Follow a session from its beginning to where another follower is: it must look like one unbroken stream, too."""
        position, finished = 0, -1
        over: set[str] = set()
        headers = {"Last-Event-ID": "0"}
        async with self._http.stream("GET", f"{self._any()}/v1/sessions/{session}/events", headers=headers) as answer:
            if answer.status_code != 200:
                self._note("GET events", answer)
                return
            async for event_id, kind, data in events(answer):
                if event_id <= position:
                    self._witness.wrong.append(f"who looked back at {session} saw event {event_id} after {position}")
                position = event_id
                self._witness.saw(over, event_id, kind, data)
                if kind == "step.finished":
                    # what was shown before it was stored, and was lost, is taken again
                    if data["seq"] != finished + 1 and not (session.startswith("quarrels") and data["seq"] <= finished):
                        self._witness.wrong.append(f"who looked back at {session} saw step {data['seq']} after {finished}")
                    finished = data["seq"]
                if event_id >= through:
                    self._witness.answers["looks back"] += 1
                    return

    # how they ask

    async def _create(self, session: str) -> None:
        answer = await self._ask("POST", "/v1/sessions", {"machine": "ledger", "id": session})
        assert answer.status_code == 201, answer.text

    async def _accepted(self, session: str, max_steps: int) -> str:
        answer = await self._post(f"/v1/sessions/{session}/runs", {"max_steps": max_steps}, _key() | {"Prefer": "respond-async"})
        assert answer.status_code == 202, answer.text
        run_id = str(answer.json()["id"])
        self._witness.accepted[run_id] = session
        return run_id

    async def _post(self, path: str, body: dict[str, Any], headers: dict[str, str]) -> httpx.Response:
        """The answer to a request that may be sent again, because it has a key."""
        return await self._ask("POST", path, {**body, "on_busy": "enqueue"}, headers)

    async def _ask(
        self, method: str, path: str, body: dict[str, Any] | None = None, headers: dict[str, str] | None = None
    ) -> httpx.Response:
        until_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < until_s:
            try:
                answer = await self._http.request(method, f"{self._any()}{path}", json=body, headers=headers)
            except httpx.TransportError as exc:
                self._witness.answers[f"{method} {type(exc).__name__}"] += 1
                await asyncio.sleep(self._chance.uniform(0.05, 0.3))
                continue
            self._note(f"{method} {path.rpartition('/')[2] if method == 'POST' else 'run'}", answer)
            if answer.status_code < 300:
                return answer
            if answer.status_code != 503:
                self._wrong(f"{method} {path}", answer)
                raise GaveUp(answer.text)
            assert int(answer.headers["Retry-After"]) >= 1
            await asyncio.sleep(self._chance.uniform(0.2, 1.0))
        raise GaveUp(f"{method} {path} got no answer in {PATIENCE_S} s")

    async def _streamed(self, session: str, max_steps: int) -> tuple[str, int]:
        """Run so many steps and follow them; return the run and the steps that it took."""
        headers = {**_key(), "Accept": "text/event-stream"}
        body = {"max_steps": max_steps, "on_busy": "enqueue"}
        until_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < until_s:
            seen: list[int] = []
            run_id = ""
            try:
                async with self._http.stream(
                    "POST", f"{self._any()}/v1/sessions/{session}/runs", json=body, headers=headers
                ) as answer:
                    self._note("POST stream", answer)
                    if answer.status_code == 200:
                        run_id = answer.headers["Location"].rpartition("/")[2]
                        steps = await self._read(answer, session, run_id, seen)
                        if steps is not None:
                            return run_id, steps
                    elif answer.status_code != 503:
                        await answer.aread()
                        self._wrong("POST stream", answer)
                        raise GaveUp(answer.text)
            except httpx.TransportError:
                pass
            if run_id:
                steps = await self._followed(session, run_id, seen)
                if steps is not None:
                    return run_id, steps
                self._witness.answers["stream of a run that was not stored"] += 1  # the key starts it again
            await asyncio.sleep(self._chance.uniform(0.1, 0.5))
        raise GaveUp(f"a stream of {session} did not come to its end")

    async def _followed(self, session: str, run_id: str, seen: list[int]) -> int | None:
        """Follow a run to its end, from the last event seen on, at one replica after the other; None if nobody knows it."""
        until_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < until_s:
            headers = {"Last-Event-ID": str(seen[-1])} if seen else {}
            try:
                async with self._http.stream("GET", f"{self._any()}/v1/runs/{run_id}/events", headers=headers) as answer:
                    self._note("GET run events", answer)
                    if answer.status_code == 200:
                        steps = await self._read(answer, session, run_id, seen)
                        if steps is not None:
                            return steps
                    elif answer.status_code == 404:
                        return None
                    elif answer.status_code != 503:
                        await answer.aread()
                        self._wrong("GET run events", answer)
                        raise GaveUp(answer.text)
            except httpx.TransportError:
                pass
            await asyncio.sleep(self._chance.uniform(0.1, 0.5))
        raise GaveUp(f"the stream of run {run_id} did not come to its end")

    async def _read(self, answer: httpx.Response, session: str, run_id: str, seen: list[int]) -> int | None:
        """Read a run's events; return its steps at the last one, None if the stream breaks off before."""
        async for event_id, kind, data in events(answer):
            if seen and event_id <= seen[-1]:
                self._witness.wrong.append(f"run {run_id} gave event {event_id} after {seen[-1]}")
            seen.append(event_id)
            if kind == "step.finished":
                self._witness.told(session, data["seq"], data["action"], data["result"])
            if kind in LAST:
                self._witness.ran(run_id, kind.rpartition(".")[2], data["steps"])
                if kind != "run.finished":
                    self._witness.wrong.append(f"run {run_id} of {session} ended with {kind}: {data}")
                return int(data["steps"])
        return None

    # what they note

    def _tell(self, session: str, answer: dict[str, Any]) -> None:
        if answer["action"] is not None:
            self._witness.told(session, answer["seq"], answer["action"], answer["result"])

    def _count(self, session: str, run_id: str, asked: int, steps: int) -> None:
        self._witness.wanted[session] += asked
        if steps != asked:
            self._witness.wrong.append(f"run {run_id} of {session} was to take {asked} steps, and took {steps}")

    def _note(self, what: str, answer: httpx.Response) -> None:
        self._witness.answers[f"{what} {answer.status_code}"] += 1

    def _wrong(self, what: str, answer: httpx.Response) -> None:
        self._witness.wrong.append(f"{what}: {answer.status_code} {answer.text[:300]}")

    def _any(self) -> str:
        return self._chance.choice(self._urls)

    async def _think(self) -> None:
        await asyncio.sleep(self._chance.uniform(0.0, LONGEST_THOUGHT_S))


def _key() -> dict[str, str]:
    return {"Idempotency-Key": uuid.uuid4().hex}
