"""What is sent has a size that is looked at before anything is stored, and little of it is repeated."""

from typing import Any

import pytest

from tests.hostile.conftest import Target

LONG = "x" * 50_000


@pytest.mark.parametrize("metadata", [{f"name-{number}": 1 for number in range(65)}, {"a": "x" * 17_000}], ids=["names", "bytes"])
def test_metadata_is_bounded_wherever_it_is_given(target: Target, metadata: dict[str, Any]) -> None:
    session = f"/v1/sessions/{target.session}"
    plan = {"session": {"machine": "counter", "metadata": metadata}, "every_s": 3600}
    with target.client() as client:
        before = client.get(session).json()
        answers = [
            client.post("/v1/sessions", json={"machine": "counter", "metadata": metadata}),
            client.post(f"{session}/fork", json={"metadata": metadata}),
            client.patch(session, json={"metadata": metadata}),
            client.post("/v1/schedules", json=plan),
        ]
        for answer in answers:
            assert (answer.status_code, answer.json()["type"]) == (422, "urn:stepwell:problem:metadata-too-large")
            assert len(answer.content) < 1_000
        assert client.get(session).json() == before


def test_metadata_cannot_grow_beyond_its_bound_by_edits(target: Target) -> None:
    session = f"/v1/sessions/{target.session}"
    with target.client() as client:
        for number in range(64):
            assert client.patch(session, json={"metadata": {f"name-{number}": "x"}}).status_code == 200
        assert client.patch(session, json={"metadata": {"one more": "x"}}).status_code == 422
        assert client.patch(session, json={"metadata": {"name-0": None}}).status_code == 200
        assert client.patch(session, json={"metadata": {"one more": "x"}}).status_code == 200


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/sessions", {"machine": LONG}),
        ("/v1/sessions", {"machine": "counter", "partition_key": LONG}),
        ("/v1/sessions", {"machine": "counter", LONG: 1}),
        ("/v1/sessions", {"machine": "counter", **{f"{number}{LONG[:500]}": 1 for number in range(150)}}),
        ("/v1/sessions", {"machine": "counter", "id": LONG}),
        ("/v1/schedules", {"session": {"machine": "counter"}, "cron": f"* * * * {LONG}"}),
        ("/v1/schedules", {"session": {"machine": "counter"}, "cron": "* * * * *", "time_zone": LONG}),
        ("/v1/schedules", {"session": {"machine": "counter"}, "at": LONG}),
        ("/v1/sessions/{}/runs", {"webhook": {"url": f"http://localhost/{LONG}"}}),
        ("/v1/sessions/{}/runs", {"halt_after": [LONG]}),
        ("/v1/sessions/{}/runs", {"halt_after": ["count"] * 2_000}),
        ("/v1/sessions/{}/steps", {"inputs": {LONG: 1}}),
        ("/v1/sessions/{}/steps", {"inputs": {f"{number}{LONG[:500]}": 1 for number in range(150)}}),
        ("/v1/sessions/{}/steps", {LONG: 1}),
    ],
)
def test_what_is_refused_is_repeated_in_part(target: Target, path: str, body: dict[str, Any]) -> None:
    with target.client() as client:
        answer = client.post(path.format(target.session), json=body)
    assert answer.status_code in (404, 422), answer.text[:200]
    assert len(answer.content) < 6_000, answer.text[:200]
    assert target.count() == 0
