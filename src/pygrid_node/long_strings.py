"""JSON, however long the strings in it are."""

import json
import secrets
from collections.abc import Mapping
from typing import Any

from pygrid_node.errors import InvalidRequest
from pygrid_node.longtext import Frame, LongText, Source

_LONG_FRAME = 1024**2  # bytes; what is shorter is read in the usual way
_LONG_STRING = 64 * 1024
_MOST_QUOTES = 20_000  # that are looked at one by one; models and diffs have a few dozen
# The keys under which a client sends what is no text; see `LongText`.
_ENCODED = frozenset({"model", "averaging_plan", "diff"})
_PLANS = "plans"


def parse_json(text: str | Frame) -> dict[str, Any]:
    """The JSON object in a frame or body; raises `InvalidRequest` in the JSON parser's own words.

    In a long one, a long string of which bytes are to be made is a `LongText`.
    """
    try:
        value = json.loads(text) if isinstance(text, str) or len(text) < _LONG_FRAME else _parse_long(text)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(str(error)) from error
    if not isinstance(value, dict):
        raise InvalidRequest("A JSON object is expected")
    return value


def _parse_long(frame: Frame) -> Any:
    """Put a short string, that nobody can guess, into the place of each long one while the rest is parsed."""
    places = _long_strings(frame)
    if not places:
        return json.loads(frame)
    source, nonce = Source(frame, len(places)), secrets.token_hex(16)
    texts = {f"{nonce}-{number}": LongText(source, *place) for number, place in enumerate(places)}
    pieces, end = [], 0
    with memoryview(frame) as view:
        for name, place in zip(texts, places, strict=True):
            pieces += [bytes(view[end : place[0]]), name.encode()]
            end = place[1]
        pieces.append(bytes(view[end:]))
    return _restored(json.loads(b"".join(pieces)), texts)


def _restored(value: Any, texts: Mapping[str, LongText], key: str = "", parent: str = "") -> Any:
    """The value under `key` of an object that is itself under `parent`."""
    match value:
        case str() if value in texts:
            is_encoded = key in _ENCODED or parent == _PLANS
            return texts[value] if is_encoded else texts[value].to_str()
        case list():
            return [_restored(each, texts) for each in value]
        case dict():
            return {_restored(name, texts): _restored(each, texts, name, key) for name, each in value.items()}
        case _:
            return value


def _long_strings(frame: Frame) -> list[tuple[int, int]]:
    """Where long strings begin and end; a quote outside of a string begins one."""
    found, start, quotes = [], -1, 0
    position = frame.find(b'"')
    while position >= 0 and quotes < _MOST_QUOTES:
        quotes += 1
        if start < 0:
            start = position + 1
        elif not _is_escaped(frame, position):
            if position - start >= _LONG_STRING:
                found.append((start, position))
            start = -1
        position = frame.find(b'"', position + 1)
    return found


def _is_escaped(frame: Frame, position: int) -> bool:
    """Whether an odd number of backslashes stands before a quote."""
    first = position
    while first and frame[first - 1] == ord("\\"):
        first -= 1
    return bool((position - first) % 2)
