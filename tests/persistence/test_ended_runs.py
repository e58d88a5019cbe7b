"""How a run is stored in its last step."""

import uuid
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.persistence.codec import decode_operations, decode_payload, deflate, encode_payload
from app.persistence.ended_runs import run_document, run_id_of, run_key
from tests.persistence.making import T0, ended, new, opened, queried, started, step, step_commit

UUIDS = st.uuids().flatmap(lambda one: st.sampled_from([str(one), str(one).upper(), one.hex]))


@given(st.text(max_size=40) | UUIDS)
def test_an_id_comes_back_as_it_was(run_id: str) -> None:
    try:
        run_id.encode()
    except UnicodeEncodeError:
        return  # no store takes it
    assert run_id_of(run_key(run_id)) == run_id


@given(st.lists(st.text("0123456789abcdef-", min_size=14, max_size=37) | st.uuids().map(str), max_size=50, unique=True))
def test_different_ids_have_different_keys(run_ids: list[str]) -> None:
    assert len({run_key(run_id) for run_id in run_ids}) == len(run_ids)


def test_a_uuid_takes_sixteen_bytes() -> None:
    assert run_key("01934f0e-7c1a-7000-8000-0123456789ab") == uuid.UUID("01934f0e-7c1a-7000-8000-0123456789ab").bytes


@pytest.mark.parametrize("result", [None, {"n": 1}, {"text": "long enough to be stored once " * 4}])
def test_a_step_reads_the_same_with_a_run_in_it(result: object) -> None:
    made = replace(step(0), result=result)
    plain = encode_payload(made.operations, made.result)
    with_run = encode_payload(made.operations, made.result, run_document(started(), ended(), made))
    assert with_run[:1] == plain[:1]
    assert decode_payload(deflate(with_run)) == decode_payload(plain) == (made.operations, result)
    assert decode_operations(deflate(with_run)) == made.operations


async def test_a_run_that_has_finished_leaves_no_row(database_url: str) -> None:
    async with opened(database_url) as store:
        await store.create_session(new())
        for number in range(3):
            start, end = started(f"r{number}", 100 * number + 5), ended(f"r{number}", 100 * number + 50)
            made = step(number, first_event_id=100 * number + 11, event_id=100 * number + 12)
            await store.commit(step_commit("s", made, run_id=start.run_id, run_start=start, run_end=end, finished=start))
        assert [run.id for run in await store.list_runs("s")] == ["r0", "r1", "r2"]
        assert (await store.get_run("r1")).started_at_s == T0 + 1
    assert await queried(database_url, "SELECT count(*) FROM runs") == 0
