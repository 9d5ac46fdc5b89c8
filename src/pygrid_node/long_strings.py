"""JSON with long strings: they stay in the frame until they are decoded.

A model arrives as hexadecimal digits in JSON, a diff as base64. The usual way to read 100 MB of model makes
200 MB of frame, 200 MB of text and 200 MB of string, and holds Python's lock for a second. Here long strings
are decoded out of the frame, slice by slice so that other threads run in between, and the frame is freed with
the last one. The rest of the frame is short, or it is refused: as Python objects, small JSON values take
thirty times as many bytes.
"""

import binascii
import json
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from pygrid_node.errors import InvalidRequest, MessageTooLarge
from pygrid_wire import Bytes

Frame = bytes | bytearray

LONG_FRAME = 64 * 1024
"""Bytes from which on a frame is searched for long strings, and is worth a thread of its own."""
LONGEST_REST = 1024**2
"""Bytes that a frame may have besides its long strings of encoded bytes."""

_T = TypeVar("_T")

_LONG_STRING = 64 * 1024
_MOST_QUOTES = 20_000  # quotes that are examined one by one; models and diffs have a few dozen
_WINDOW = 4096  # characters that are examined at once before a quote
_SLICE = 3 * 2**18  # characters decoded at once, about a millisecond; whole bytes in hex and in base64
# The keys whose values are encoded bytes; see `LongString`.
_ENCODED = frozenset({"model", "averaging_plan", "diff"})
_PLANS = "plans"
# Escapes in a string of base64: Foundation (iOS) escapes slashes, Android's encoder ends lines.
_ESCAPES = (b"\\/", b"\\n", b"\\r")


class Document:
    """The JSON object in a frame, before it is parsed."""

    def __init__(self, frame: Frame) -> None:
        """Find the long strings in a frame of `LONG_FRAME` bytes or more. Raises `MessageTooLarge`."""
        self._frame = frame
        self._spans = _long_strings(frame) if len(frame) >= LONG_FRAME else []
        self.size = len(frame) - sum(end - start for start, end in self._spans)
        """Bytes without the long strings."""
        if self.size > LONGEST_REST:
            raise _rest_too_long()

    def parse(self) -> dict[str, Any]:
        """Return the object; a long string of encoded bytes in it is a `LongString`.

        Raises `InvalidRequest` with the text of Python's parser, and `MessageTooLarge` if long strings that
        are not encoded bytes make the rest too long.
        """
        try:
            value = _parse_long(self._frame, self._spans) if self._spans else _loads(self._frame)
        except (ValueError, RecursionError) as error:
            raise InvalidRequest(str(error)) from error
        if not isinstance(value, dict):
            raise InvalidRequest("A JSON object is expected")
        return value


def _rest_too_long() -> MessageTooLarge:
    return MessageTooLarge(LONGEST_REST, "A message without its model, plans and diff")


class LongString:
    """A long string of ASCII characters, still in its frame; it can be decoded once."""

    def __init__(self, source: "_Source", start: int, end: int) -> None:
        """Refer to the characters between two quotes."""
        self._source = source
        self._start, self._end = start, end

    def __len__(self) -> int:
        """Return the number of characters, those of escapes included."""
        return self._end - self._start

    def from_hex(self) -> bytearray:
        """Decode hexadecimal digits. Raises ValueError."""
        return self._taken(lambda text: _joined(_slices(text), binascii.a2b_hex, 1, 2))

    def from_base64(self) -> bytearray:
        """Decode standard base64, strictly but for line ends. Raises ValueError."""
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


def _loads(text: Frame) -> Any:
    """Parse JSON. Raises ValueError, also for half of a surrogate pair, which no UTF-8 can express."""
    value = json.loads(text)
    if b"\\u" in text or not text.isascii():
        json.dumps(value, ensure_ascii=False).encode()
    return value


def _parse_long(frame: Frame, spans: list[tuple[int, int]]) -> Any:
    """Replace each long string by a short one that cannot be guessed, and parse the rest."""
    source, nonce = _Source(frame, len(spans)), secrets.token_hex(16)
    texts = {f"{nonce}-{number}": LongString(source, *span) for number, span in enumerate(spans)}
    pieces, end = [], 0
    with memoryview(frame) as view:
        for name, span in zip(texts, spans, strict=True):
            pieces += [bytes(view[end : span[0]]), name.encode()]
            end = span[1]
        pieces.append(bytes(view[end:]))
    return _Restoration(texts, LONGEST_REST - sum(len(piece) for piece in pieces)).of(
        _loads(b"".join(pieces))
    )


class _Restoration:
    """Puts long strings back into a value."""

    def __init__(self, texts: Mapping[str, LongString], room: int) -> None:
        """Allow `room` characters in long strings that are not encoded bytes."""
        self._texts = texts
        self._room = room

    def of(self, value: Any, key: str = "", parent: str = "") -> Any:
        """Return the value under `key` of the object under `parent`. Raises `MessageTooLarge`."""
        match value:
            case str() if value in self._texts:
                text = self._texts[value]
                return text if key in _ENCODED or parent == _PLANS else self._as_str(text)
            case list():
                return [self.of(each) for each in value]
            case dict():
                return {self.of(name): self.of(each, name, key) for name, each in value.items()}
            case _:
                return value

    def _as_str(self, text: LongString) -> str:
        self._room -= len(text)
        if self._room < 0:
            raise _rest_too_long()
        return text.to_str()


def _long_strings(frame: Frame) -> list[tuple[int, int]]:
    """Return where long strings of ASCII characters start and end; a quote outside of a string starts one."""
    found, start, quotes = [], -1, 0
    position = frame.find(b'"')
    while position >= 0 and quotes < _MOST_QUOTES:
        quotes += 1
        if start < 0:
            start = position + 1
        elif not _is_escaped(frame, position):
            if position - start >= _LONG_STRING and _may_be_encoded(frame, start, position):
                found.append((start, position))
            start = -1
        position = frame.find(b'"', position + 1)
    return found


def _is_escaped(frame: Frame, position: int) -> bool:
    """Return whether an odd number of backslashes precedes a quote."""
    first = position
    while first and frame[first - 1] == ord("\\"):
        before = frame[max(0, first - _WINDOW) : first]
        first -= len(before) - len(before.rstrip(b"\\"))
    return bool((position - first) % 2)


def _may_be_encoded(frame: Frame, start: int, end: int) -> bool:
    """Return whether a string has ASCII characters only, and no escapes but `_ESCAPES`.

    Any other string counts as rest: a single character that is not ASCII makes a `str` four times as large.
    """
    if frame.count(b"\\", start, end) != sum(frame.count(escape, start, end) for escape in _ESCAPES):
        return False
    return all(frame[at : min(at + _SLICE, end)].isascii() for at in range(start, end, _SLICE))


def _base64(text: memoryview) -> bytearray:
    return _joined(_slices(text), _strict_base64, 3, 4)


def _escaped_base64(text: memoryview) -> bytearray:
    """Decode base64 with escapes; see `_ESCAPES`."""
    return _joined(_slices_without_escapes(text), _strict_base64, 3, 4)


def _strict_base64(text: Bytes) -> bytes:
    return binascii.a2b_base64(text, strict_mode=True)


def _slices(text: memoryview) -> Iterator[memoryview]:
    return (text[start : start + _SLICE] for start in range(0, len(text), _SLICE))


def _slices_without_escapes(text: memoryview) -> Iterator[bytes]:
    """Yield slices in whole groups of four characters, without line ends, and slashes for escaped ones."""
    rest = b""
    for part in _slices(text):
        rest = (rest + bytes(part)).replace(b"\\/", b"/").replace(b"\\r\\n", b"").replace(b"\\n", b"")
        # The characters of an escape may be in two slices, three of those of a CRLF in the first.
        cut = rest.find(b"\\", max(0, len(rest) - 3))
        whole = (len(rest) if cut < 0 else cut) // 4 * 4
        yield rest[:whole]
        rest = rest[whole:]
    yield rest


def _joined(parts: Iterable[Bytes], decode: Callable[[Bytes], bytes], octets: int, digits: int) -> bytearray:
    """Decode part by part; `digits` characters give `octets` bytes, except for padding at the end."""
    body, count = bytearray(), 0
    for part in parts:
        if len(part) and len(body) != count // digits * octets:
            raise ValueError("padding in the middle")
        body += decode(part)
        count += len(part)
    return body
