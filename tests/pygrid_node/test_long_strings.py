"""Long messages are parsed like short ones, without copies of their long strings."""

import base64
import json

import pytest

from pygrid_node.errors import InvalidRequest
from pygrid_node.long_strings import LongString, parse_json

BODY = bytes(range(256)) * 8192
HEX, BASE64 = BODY.hex(), base64.b64encode(BODY).decode()
BLANK = " " * 2**20  # makes a frame long


def frame(value, **options):
    return bytearray(json.dumps(value, **options).encode() + BLANK.encode())


@pytest.mark.parametrize(
    "value",
    [
        {"a": "b", "c": [1, None, True, {"d": "e"}]},
        {"text": "x" * 100_000, "list": ["y" * 100_000, "short"], "deep": {"z" * 70_000: 1}},
        {"quoted": '"' * 70_000, "backslashes": "\\" * 70_001, "both": '\\"' * 40_000},
        {"data": {"client_config": {"name": "ü\n" * 50_000}}},
        {"many": ['"'] * 30_000, "model": "ff" * 50_000},
    ],
    ids=["short", "long", "escaped", "not ASCII", "many quotes"],
)
def test_strings_that_are_not_encoded_bytes_are_parsed_as_usual(value):
    """They may have any length and any key."""
    for options in ({}, {"ensure_ascii": False}):
        assert parse_json(frame(value, **options)) == value
    assert parse_json(bytes(frame(value))) == value


def test_model_stays_in_the_frame_until_it_is_decoded():
    """The frame is freed with the last long string."""
    data = {"model": HEX, "plans": {"training_plan": HEX}, "averaging_plan": HEX, "name": "n" * 70_000}
    message = frame({"type": "t", "data": data})
    parsed = parse_json(message)["data"]

    assert parsed["name"] == data["name"]
    for text in (parsed["model"], parsed["plans"]["training_plan"]):
        assert text.from_hex() == BODY
        assert message
    assert parsed["averaging_plan"].from_hex() == BODY
    assert not message


@pytest.mark.parametrize(
    "text", [BASE64, BASE64.replace("/", "\\/")], ids=["plain", "as Foundation writes it"]
)
def test_diff_is_decoded(text):
    """SwiftSyft's JSON has backslashes before slashes."""
    message = bytearray(f'{{"diff": "{text}"}}'.encode() + BLANK.encode())

    assert parse_json(message)["diff"].from_base64() == BODY


@pytest.mark.parametrize(
    ("method", "text"),
    [
        ("from_hex", HEX + "f"),
        ("from_hex", HEX + "xx"),
        ("from_base64", BASE64 + "="),
        ("from_base64", BASE64[:-1]),
        ("from_base64", BASE64 + "A"),
        ("from_base64", "-" + BASE64),
        ("from_base64", "AA==" * 400_000),
        ("from_base64", "A" * 786_428 + "AA==" * 400),
    ],
)
def test_badly_encoded_string_is_refused(method, text):
    """Long strings are decoded as strictly as short ones: no padding in the middle, no character skipped."""
    parsed = parse_json(frame({"diff": text}))["diff"]
    assert isinstance(parsed, LongString)
    with pytest.raises(ValueError):  # noqa: PT011 - any, for a caller that has a sentence of its own
        getattr(parsed, method)()


@pytest.mark.parametrize("ending", ['"', '"}', '\\"}', ""])
def test_long_frame_that_is_not_an_object_is_refused(ending):
    """The error has the text of Python's parser, or a sentence."""
    start = '"' if ending == '"' else '{"model": "'
    with pytest.raises(InvalidRequest):
        parse_json(bytearray((start + HEX + (ending if ending != '"}' else '"')).encode()))


def test_deeply_nested_long_message_is_refused():
    """It is not a fault of the node."""
    with pytest.raises(InvalidRequest):
        parse_json(bytearray(b"[" * 2**20 + b'"' + b"a" * 70_000))
