"""Long messages say the same as short ones, and their bytes are there once."""

import base64
import json

import pytest

from pygrid_node.errors import InvalidRequest
from pygrid_node.long_strings import parse_json
from pygrid_node.longtext import LongText

BODY = bytes(range(256)) * 8192
HEX, BASE64 = BODY.hex(), base64.b64encode(BODY).decode()
BLANK = " " * 2**20  # makes a frame a long one


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
def test_what_is_no_encoded_body_is_read_as_ever(value):
    """However long, and wherever it stands."""
    for options in ({}, {"ensure_ascii": False}):
        assert parse_json(frame(value, **options)) == value
    assert parse_json(bytes(frame(value))) == value


def test_a_model_is_left_in_the_frame_until_it_is_wanted():
    """And the frame is given back when nothing more is in it."""
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
def test_a_diff_is_decoded(text):
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
def test_what_is_badly_encoded_is_refused(method, text):
    """As strictly as when it is short: no padding in the middle, nothing skipped."""
    parsed = parse_json(frame({"diff": text}))["diff"]
    assert isinstance(parsed, LongText)
    with pytest.raises(ValueError):  # noqa: PT011 - any, for a caller that has a sentence of its own
        getattr(parsed, method)()


@pytest.mark.parametrize("ending", ['"', '"}', '\\"}', ""])
def test_a_long_frame_that_is_no_object_is_refused(ending):
    """In the parser's words, or with a sentence."""
    start = '"' if ending == '"' else '{"model": "'
    with pytest.raises(InvalidRequest):
        parse_json(bytearray((start + HEX + (ending if ending != '"}' else '"')).encode()))


def test_a_long_message_that_is_nested_without_end_is_refused():
    """Not with a fault of the node."""
    with pytest.raises(InvalidRequest):
        parse_json(bytearray(b"[" * 2**20 + b'"' + b"a" * 70_000))
