"""JSON with long strings: they stay in the frame until they are decoded.

A model arrives as hexadecimal digits in JSON, a diff as base64. The usual way to read 100 MB of model makes
200 MB of frame, 200 MB of text and 200 MB of string, and holds Python's lock for a second. Here long strings
are decoded out of the frame, slice by slice so that other threads run in between, and the frame is freed with
the last one.
"""

import binascii
import json
import secrets
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pygrid_node.errors import InvalidRequest

Frame = bytes | bytearray

LONG_FRAME = 1024**2
"""Bytes from which on a frame is searched for long strings, and is worth a thread of its own."""

_T = TypeVar("_T")

_LONG_STRING = 64 * 1024
_MOST_QUOTES = 20_000  # quotes that are examined one by one; models and diffs have a few dozen
_SLICE = 3 * 2**18  # characters decoded at once, about a millisecond; whole bytes in hex and in base64
# The keys whose values are encoded bytes; see `LongString`.
_ENCODED = frozenset({"model", "averaging_plan", "diff"})
_PLANS = "plans"


def parse_json(frame: Frame) -> dict[str, Any]:
    """Parse the JSON object in a frame. Raises `InvalidRequest` with the text of Python's parser.

    In a frame of `LONG_FRAME` bytes or more, a long string of encoded bytes becomes a `LongString`.
    """
    try:
        value = json.loads(frame) if len(frame) < LONG_FRAME else _parse_long(frame)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(str(error)) from error
    if not isinstance(value, dict):
        raise InvalidRequest("A JSON object is expected")
    return value


class LongString:
    """A long string of a JSON document, still in its frame; it can be decoded once."""

    def __init__(self, source: "_Source", start: int, end: int) -> None:
        """Refer to the characters between two quotes."""
        self._source = source
        self._start, self._end = start, end

    def __len__(self) -> int:
        """Return the number of characters, those of escapes included."""
        return self._end - self._start

    def from_hex(self) -> bytearray:
        """Decode hexadecimal digits. Raises ValueError."""
        return self._taken(lambda text: _sliced(text, binascii.a2b_hex, 1, 2))

    def from_base64(self) -> bytearray:
        """Decode standard base64, strictly. Raises ValueError."""
        escaped = self._source.frame.find(b"\\", self._start, self._end) >= 0
        read = _escaped_base64 if escaped else _base64
        return self._taken(read)

    def to_str(self) -> str:
        """Decode it as a JSON string. Raises ValueError."""
        text: str = self._taken(lambda text: json.loads(b'"' + bytes(text) + b'"'))
        return text

    def _taken(self, read: Callable[[memoryview], _T]) -> _T:
        with memoryview(self._source.frame)[self._start : self._end] as text:
            value = read(text)
        # Not after an error: its traceback refers to the frame, which is freed with the refused message.
        self._source.release()
        return value


class _Source:
    """A frame with long strings."""

    def __init__(self, frame: Frame, strings: int) -> None:
        """Keep `frame` until this many strings are decoded."""
        self.frame = frame
        self._left = strings

    def release(self) -> None:
        """Count a decoded string; free the frame after the last one."""
        self._left -= 1
        if not self._left:
            if isinstance(self.frame, bytearray):
                self.frame.clear()  # even if something else still refers to it
            self.frame = b""


def _parse_long(frame: Frame) -> Any:
    """Replace each long string by a short one that cannot be guessed, and parse the rest."""
    spans = _long_strings(frame)
    if not spans:
        return json.loads(frame)
    source, nonce = _Source(frame, len(spans)), secrets.token_hex(16)
    texts = {f"{nonce}-{number}": LongString(source, *span) for number, span in enumerate(spans)}
    pieces, end = [], 0
    with memoryview(frame) as view:
        for name, span in zip(texts, spans, strict=True):
            pieces += [bytes(view[end : span[0]]), name.encode()]
            end = span[1]
        pieces.append(bytes(view[end:]))
    return _restored(json.loads(b"".join(pieces)), texts)


def _restored(value: Any, texts: Mapping[str, LongString], key: str = "", parent: str = "") -> Any:
    """Put long strings back into the value under `key` of the object under `parent`."""
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
    """Return where long strings start and end; a quote outside of a string starts one."""
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
    """Return whether an odd number of backslashes precedes a quote."""
    first = position
    while first and frame[first - 1] == ord("\\"):
        first -= 1
    return bool((position - first) % 2)


def _base64(text: memoryview) -> bytearray:
    return _sliced(text, _strict_base64, 3, 4)


def _escaped_base64(text: memoryview) -> bytearray:
    """Decode base64 whose slashes are escaped, as Foundation (iOS) writes them in JSON."""
    return _base64(memoryview(bytes(text).replace(b"\\/", b"/")))


def _strict_base64(text: memoryview) -> bytes:
    return binascii.a2b_base64(text, strict_mode=True)


def _sliced(text: memoryview, decode: Callable[[memoryview], bytes], octets: int, digits: int) -> bytearray:
    """Decode slice by slice; `digits` characters give `octets` bytes, except for padding at the end."""
    body = bytearray()
    for start in range(0, len(text), _SLICE):
        if len(body) != start // digits * octets:
            raise ValueError("padding in the middle")
        body += decode(text[start : start + _SLICE])
    return body
