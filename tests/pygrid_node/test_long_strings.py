"""Long messages are parsed like short ones, without copies of their long strings."""

import base64
import json
import tracemalloc

import pytest

from pygrid_node.errors import InvalidRequest, MessageTooLarge
from pygrid_node.long_strings import LONG_FRAME, LONGEST_REST, Document, LongString

BODY = bytes(range(256)) * 8192
HEX, BASE64 = BODY.hex(), base64.b64encode(BODY).decode()
BLANK = " " * LONG_FRAME  # makes a frame long


def parse_json(message):
    return Document(message).parse()


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


LINES = base64.encodebytes(BODY).decode().replace("\n", "\\n")


@pytest.mark.parametrize(
    "text",
    [
        BASE64,
        BASE64.replace("/", "\\/"),
        LINES,
        LINES.replace("\\n", "\\r\\n"),
        LINES.replace("/", "\\/"),
    ],
    ids=["plain", "as Foundation writes it", "as Android writes it", "CRLF", "lines and escaped slashes"],
)
def test_diff_is_decoded(text):
    """SwiftSyft's JSON has backslashes before slashes; KotlinSyft's base64 has lines of 76 characters."""
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
        ("from_base64", BASE64[:100] + "\r" + BASE64[100:]),
        ("from_base64", BASE64[:100] + "\n\r" + BASE64[100:]),
        ("from_base64", BASE64[:100] + " " + BASE64[100:]),
        ("from_base64", BASE64 + "\r"),
        ("from_hex", HEX[:100] + "\n" + HEX[100:]),
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


@pytest.mark.parametrize("other", ["\t", "\\", "\\n", "é"])
def test_string_with_other_escapes_is_not_cut_out(other):
    """No encoder of base64 writes them, so the string counts as rest."""
    with pytest.raises(MessageTooLarge):
        parse_json(frame({"diff": BASE64[:100] + other + BASE64[100:]}))


@pytest.mark.parametrize("line_end", ["\\n", "\\r\\n"])
@pytest.mark.parametrize("shift", range(5))
@pytest.mark.parametrize("slices", [1, 2])
def test_line_end_and_escaped_slash_may_be_in_two_slices(line_end, shift, slices):
    """A slice has 786,432 characters, here two for each slash, and one for the A before them."""
    body = (b"\x03" if shift % 2 else b"\xff") + b"\xff" * (2**20 - 2)
    text = base64.b64encode(body).decode().replace("/", "\\/")
    place = slices * 786_432 - shift
    text = text[:place] + line_end + text[place:] + line_end
    message = bytearray(f'{{"diff": "{text}"}}'.encode() + BLANK.encode())

    assert parse_json(message)["diff"].from_base64() == body


def test_lines_are_decoded_with_one_slice_more():
    """Neither the text nor the bytes are held twice."""
    body = bytes(range(256)) * 2**16  # 16 MiB
    lines = base64.encodebytes(body).decode().replace("\n", "\\n")
    diff = parse_json(bytearray(f'{{"diff": "{lines}"}}'.encode()))["diff"]
    tracemalloc.start()
    decoded = diff.from_base64()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert decoded == body
    assert peak < 1.3 * len(body) + 5 * 2**20


@pytest.mark.parametrize("ending", ['"', '"}', '\\"}', ""])
def test_long_frame_that_is_not_an_object_is_refused(ending):
    """The error has the text of Python's parser, or a sentence."""
    start = '"' if ending == '"' else '{"model": "'
    with pytest.raises((InvalidRequest, MessageTooLarge)):
        parse_json(bytearray((start + HEX + (ending if ending != '"}' else '"')).encode()))


def test_deeply_nested_long_message_is_refused():
    """It is not a fault of the node."""
    with pytest.raises(InvalidRequest):
        parse_json(bytearray(b"[" * 2**19 + b'"' + b"a" * 70_000))


@pytest.mark.parametrize("size", [1, 3 * 2**18 - 1, 3 * 2**18, 3 * 2**19 + 5, 2 * 2**20])
def test_escaped_slashes_may_be_anywhere(size):
    """The characters of a slash and of a group of four may be in two slices."""
    body = b"\xff" * size
    text = base64.b64encode(body).decode().replace("/", "\\/")
    message = bytearray(f'{{"diff": "{text}", "more": "{"a" * 70_000}"}}'.encode() + BLANK.encode())
    diff = parse_json(message)["diff"]

    assert size == 1 or diff.from_base64() == body


REST = {
    "lists": b"[" + b"[]," * 700_000 + b"[]]",
    "objects": b"[" + b'{"":1},' * 300_000 + b"1]",
    "numbers": b"[" + b"1," * 1_000_000 + b"1]",
    "blanks": b" " * 2 * 2**20 + b"1",
    "short strings": b"[" + b'"abc",' * 300_000 + b"1]",
    "no JSON": b"x" * 2 * 2**20,
    "long string of another key": b'"' + b"a" * 2 * 2**20 + b'"',
    "long string that is not ASCII": b'"' + "\U0001f600".encode() * 2**19 + b'"',
    "long string with escapes": b'"' + b"\\n" * 2**20 + b'"',
}


@pytest.mark.parametrize("rest", REST.values(), ids=REST)
@pytest.mark.parametrize("model", [b'"model": "' + HEX.encode() + b'", ', b""], ids=["model", "no model"])
def test_rest_of_a_frame_is_short(rest, model):
    """It is refused before it is parsed, whatever it is."""
    with pytest.raises(MessageTooLarge, match=f"at most {LONGEST_REST} bytes"):
        parse_json(bytearray(b"{" + model + b'"a": ' + rest + b"}"))


def test_strings_of_other_keys_share_the_rest():
    """Each of them would be short enough."""
    text = "n" * (LONGEST_REST // 2 - 1000)

    assert len(parse_json(frame({"model": HEX, "a": text, "b": "n" * 1000}))["a"]) == len(text)
    with pytest.raises(MessageTooLarge):
        parse_json(frame({"model": HEX, "a": text, "b": text, "c": "n" * 70_000}))
