"""Long strings of a message: left where they came in until somebody wants what they say.

A model comes as hexadecimal digits, a diff as base64, in JSON. Read in the usual way, 100 MB of model are 200
MB of frame, 200 of text, and 200 of string. Here they are decoded out of the frame, a slice at a time so that
other threads get their turn, and the frame is given back as soon as nothing in it is needed any more.
"""

import binascii
import json
from collections.abc import Callable
from typing import TypeVar

Frame = bytes | bytearray

_T = TypeVar("_T")

_SLICE = 3 * 2**18  # characters decoded in one go; 0.8 M take a millisecond. Whole bytes in hex and in base64


class Source:
    """A frame with long strings in it."""

    def __init__(self, frame: Frame, strings: int) -> None:
        """Keep `frame` until this many strings have been taken."""
        self.frame = frame
        self._left = strings

    def release(self) -> None:
        """Note that one string was taken."""
        self._left -= 1
        if not self._left:
            if isinstance(self.frame, bytearray):
                self.frame.clear()  # whoever else has a reference to it
            self.frame = b""


class LongText:
    """One of them; to be taken once, in one of its three meanings."""

    def __init__(self, source: Source, start: int, end: int) -> None:
        """Stand for what is between two quotes of a JSON document."""
        self._source = source
        self._start, self._end = start, end

    def from_hex(self) -> bytearray:
        """The bytes that it gives in hexadecimal digits; raises ValueError."""
        return self._taken(lambda text: _sliced(text, binascii.a2b_hex, 1, 2))

    def from_base64(self) -> bytearray:
        """The bytes that it gives in standard base64, strictly; raises ValueError."""
        escaped = self._source.frame.find(b"\\", self._start, self._end) >= 0
        read = _escaped_base64 if escaped else _base64
        return self._taken(read)

    def to_str(self) -> str:
        """What it says as text; raises ValueError for what is not JSON."""
        text: str = self._taken(lambda text: json.loads(b'"' + bytes(text) + b'"'))
        return text

    def _taken(self, read: Callable[[memoryview], _T]) -> _T:
        with memoryview(self._source.frame)[self._start : self._end] as text:
            value = read(text)
        # Not after an error, whose traceback looks into the frame: it goes with the message that is refused.
        self._source.release()
        return value


def _base64(text: memoryview) -> bytearray:
    return _sliced(text, _strict_base64, 3, 4)


def _escaped_base64(text: memoryview) -> bytearray:
    """Foundation's JSON writes every slash with a backslash before it."""
    return _base64(memoryview(bytes(text).replace(b"\\/", b"/")))


def _strict_base64(text: memoryview) -> bytes:
    return binascii.a2b_base64(text, strict_mode=True)


def _sliced(text: memoryview, decode: Callable[[memoryview], bytes], octets: int, digits: int) -> bytearray:
    """Decode slice by slice; `digits` characters give `octets` bytes, but for padding at the end."""
    body = bytearray()
    for start in range(0, len(text), _SLICE):
        if len(body) != start // digits * octets:
            raise ValueError("padding in the middle")
        body += decode(text[start : start + _SLICE])
    return body
