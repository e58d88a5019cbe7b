"""Blobs: exact, small, and honest about what they cannot read."""

import base64
import datetime as dt
import json
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.engine.operations import Append, Delete, Extend, Increment, Operation, Set
from app.engine.serde import UnserializableValue
from app.persistence.codec import (
    PayloadInvalid,
    decode_operations,
    decode_payload,
    decode_run,
    decode_state,
    deflate,
    encode_payload,
    encode_state,
    pack,
    unpack,
)

VALUES: list[Any] = [
    None,
    True,
    -5,
    2**200,
    1.5,
    float("inf"),
    "",
    "a\0b \ud800 ü 日本",
    [],
    [1, [2, {"x": None}]],
    {},
    {"$": 1, "a": {"$": ["tuple", []]}},
    {1: "one", None: "none", (1, 2): "pair"},
    (),
    (1, (2,)),
    {1, 2},
    frozenset({"a"}),
    b"\x00\xff",
    dt.datetime(2024, 5, 1, 12, 30, 1, 5, tzinfo=dt.UTC),
    dt.date(2024, 5, 1),
    dt.time(1, 2, 3),
    dt.timedelta(days=1, microseconds=3),
    uuid.UUID(int=5),
    Decimal("1.10"),
    "x" * 5000,
    ["y" * 100] * 50,
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_every_value_comes_back_as_it_was(value: Any) -> None:
    operations: tuple[Operation, ...] = (Set("k", value), Append("l", value), Extend("l", (value, value)))
    for result in (None, value, {"k": value, "rest": 1}, {"first": 0, "k": value}):
        blob = encode_payload(operations, result)
        for form in (blob, deflate(blob)):
            assert repr(decode_payload(form)) == repr((operations, result))
            assert repr(decode_operations(form)) == repr(operations)
    assert repr(decode_state(deflate(encode_state({"k": value, "$": value})))) == repr({"k": value, "$": value})


def test_numbers_and_deletes_come_back() -> None:
    operations = (Increment("n", 2**80), Increment("f", -0.5), Delete("k"), Set("odd \0 \ud800 key", 1))
    assert decode_payload(encode_payload(operations, None)) == (operations, None)


def test_what_a_step_wrote_is_not_stored_again_as_its_result() -> None:
    text, message = "t" * 300, {"role": "user", "content": "c" * 300}
    operations = (Set("reply", text), Append("history", message))
    alone = len(encode_payload(operations, None))
    for result in ({"reply": text}, {"message": message}, message, {"reply": "t" * 300, "n": 1}):
        blob = encode_payload(operations, result)
        assert len(blob) < alone + 40
        assert decode_payload(blob) == (operations, result)


@given(
    st.dictionaries(st.text(max_size=3), st.sampled_from(["a" * 30, "b" * 30, "short", 5, ("x" * 30,)]), max_size=4),
    st.lists(st.sampled_from(["a" * 30, "b" * 30, "short", 5]), max_size=4),
)
def test_a_result_that_shares_values_with_the_operations_comes_back(result: dict[str, Any], written: list[Any]) -> None:
    operations = tuple(Set(f"k{index}", value) for index, value in enumerate(written))
    decoded_operations, decoded = decode_payload(deflate(encode_payload(operations, result)))
    assert decoded_operations == operations
    assert list(decoded.items()) == list(result.items())


def test_large_text_is_deflated_and_noise_is_not_made_larger() -> None:
    assert len(deflate(pack("words and words " * 1000))) < 500
    noise = pack(bytes(range(256)).hex() * 3)
    assert unpack(noise) == bytes(range(256)).hex() * 3


def test_a_value_that_cannot_be_stored_is_named_by_its_place() -> None:
    with pytest.raises(UnserializableValue) as caught:
        encode_state({"conversation": [1, {"client": object()}]})
    assert "conversation" in str(caught.value)
    with pytest.raises(UnserializableValue):
        encode_payload((Set("k", object()),), None)
    with pytest.raises(UnserializableValue):
        encode_payload((), {"k": object()})


@pytest.mark.parametrize("blob", [b"", b"\x10", b"\x10{", b"\x11abc", b"\x21abc", b"\x21", b"\x50[]", b"\xff", b"{}", b"\x11"])
def test_a_damaged_blob_is_an_error_that_shows_nothing_of_it(blob: bytes) -> None:
    for read in (unpack, decode_state, decode_payload, decode_operations):
        with pytest.raises(PayloadInvalid):
            read(blob)


@pytest.mark.parametrize("document", [5, [], {}, [1], [[["x", "k"]], None], [[["s"]], None], [[5], None], [[], {"$": ["odd"]}]])
def test_a_blob_of_another_form_is_an_error(document: Any) -> None:
    with pytest.raises(PayloadInvalid):
        decode_payload(pack(document))


def test_a_snapshot_that_is_no_mapping_is_an_error() -> None:
    with pytest.raises(PayloadInvalid):
        decode_state(pack([1]))


GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("format-*.json")), ids=lambda path: path.stem)
def test_what_an_older_version_wrote_can_be_read(path: Path) -> None:
    golden = json.loads(path.read_text())
    for case in golden["payloads"].values():
        assert repr(decode_payload(base64.b64decode(case["blob"]), state=case.get("state"))) == case["is"]
        assert repr(decode_run(base64.b64decode(case["blob"]))) == case.get("run", "None")
    for case in golden["states"].values():
        assert repr(decode_state(base64.b64decode(case["blob"]))) == case["is"]


LARGE = {"rows": [{"number": number, "half": number / 2, "text": 'é\u2028"\\'} for number in range(10_000)], "most": 2**64 - 1}


@pytest.mark.parametrize("blob", [b"\x10" + orjson.dumps(LARGE), pack(LARGE)], ids=["plain", "deflated"])
def test_a_large_document_is_read_as_a_small_one_is(blob: bytes) -> None:
    assert unpack(blob) == LARGE


@pytest.mark.parametrize(
    "end", [b"", b"NaN]", b"secret]", b'"\xff"]', b'"a\nb"]'], ids=["cut", "NaN", "word", "no UTF-8", "control"]
)
@pytest.mark.parametrize("count", [1, 100_000], ids=["small", "large"])
def test_damage_is_told_without_the_text_whatever_the_size(count: int, end: bytes) -> None:
    with pytest.raises(PayloadInvalid) as caught:
        unpack(b"\x10[" + b'"secret",' * count + end)
    assert "secret" not in str(caught.value)
    assert caught.value.__suppress_context__
