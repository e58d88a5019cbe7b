"""A replica is killed that holds background runs, with more of them waiting: all end, once, and everybody is told."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from standardwebhooks import Webhook

from tests.endpoint import receiving
from tests.replicas.test_failover import Replica, check_log, two_replicas, until_ended

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SETTINGS = {"STEPWELL_BACKGROUND_RUNS": "2", "STEPWELL_WEBHOOK_PRIVATE": "true", "STEPWELL_WEBHOOK_SECRET": SECRET}
RUNS = 6
STEPS = 12


@pytest.fixture
async def replicas(postgres_store_url: str, tmp_path: Path) -> AsyncIterator[list[Replica]]:
    async with two_replicas(postgres_store_url, tmp_path, **SETTINGS) as made:
        yield made


async def test_what_a_killed_replica_had_taken_or_was_to_tell_of_is_not_lost(replicas: list[Replica]) -> None:
    doomed, heir = replicas
    with receiving(lambda number: 204 if number > 3 else 503) as endpoint:
        every_second = {"session": {"machine": "clock"}, "run": {"max_steps": 1}, "every_s": 1}
        schedule = (await doomed.client.post("/v1/schedules", json=every_second)).json()
        run_ids = []
        for number in range(RUNS):
            name = f"b{number}"
            assert (await doomed.client.post("/v1/sessions", json={"machine": "clock", "id": name})).status_code == 201
            body = {"max_steps": STEPS, "webhook": {"url": endpoint.url}}
            accepted = await doomed.client.post(f"/v1/sessions/{name}/runs", json=body, headers={"Prefer": "respond-async"})
            assert accepted.status_code == 202
            run_ids.append(accepted.json()["id"])
        await asyncio.to_thread(endpoint.until, 2)
        doomed.service.kill()
        for number, run_id in enumerate(run_ids):
            run = await until_ended(heir, f"/v1/sessions/b{number}", run_id)
            assert (run["status"], run["steps"]) == ("finished", STEPS)
            await check_log(heir, f"/v1/sessions/b{number}", STEPS)
        async with asyncio.timeout(60):
            while set(run_ids) - {each.headers["webhook-id"] for each in endpoint.received[3:]}:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        for each in endpoint.received:
            Webhook(SECRET).verify(each.body, each.headers)
        assert (await heir.client.patch(f"/v1/schedules/{schedule['id']}", json={"paused": True})).status_code == 200
        made = (await heir.client.get("/v1/sessions", params={"limit": 1000})).json()["items"]
        scheduled = [each["id"] for each in made if each["id"].startswith(schedule["id"])]
        assert len(scheduled) >= 3
        runs = [(await heir.client.get(f"/v1/sessions/{each}/runs")).json()["items"] for each in scheduled]
        found = Counter(len(each) for each in runs)
        assert set(found) <= {0, 1}, "one run for each time"
        assert found[0] <= 1, "but for one that was paused in the moment between its session and its run"
        assert "Traceback" not in heir.service.text()
