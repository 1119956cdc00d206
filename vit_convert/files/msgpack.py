"""msgpack itself: where each object of a file lies, without loading it, and the bytes that go before one.

Format: https://github.com/msgpack/msgpack/blob/master/spec.md (big-endian; a head says kind and length).
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

# First byte -> kind, and how many bytes of length follow.
_SIZED = {
    **{0xC4 + i: ("bin", 1 << i) for i in range(3)},
    **{0xC7 + i: ("ext", 1 << i) for i in range(3)},
    **{0xD9 + i: ("str", 1 << i) for i in range(3)},
    **{0xDC + i: ("array", 2 << i) for i in range(2)},
    **{0xDE + i: ("map", 2 << i) for i in range(2)},
}
_NUMBERS = {
    0xCA: "f",
    0xCB: "d",
    0xCC: "B",
    0xCD: "H",
    0xCE: "I",
    0xCF: "Q",
    0xD0: "b",
    0xD1: "h",
    0xD2: "i",
    0xD3: "q",
}
_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}


@dataclass(frozen=True)
class Token:
    """The head of an object. A map or array is followed by its `value` entries; the others are complete."""

    kind: str  # "map", "array", "str", "bin", "ext", "plain"
    value: Any = None  # number of entries; type of an ext; the value itself, if plain
    start: int = 0  # of the payload of str, bin and ext
    size: int = 0


class Walker:
    """Steps from token to token through memory[start:end]; skips payloads.

    Raises:
        ValueError: the bytes are not msgpack, or end too early.
    """

    def __init__(self, memory: Any, start: int, end: int):
        self.memory, self.at, self.end = memory, start, end

    def next(self) -> Token:
        first = self._unsigned(1)
        if first <= 0x7F or first >= 0xE0:
            return Token("plain", first if first <= 0x7F else first - 0x100)
        if first <= 0xBF:
            kind = "map" if first <= 0x8F else "array" if first <= 0x9F else "str"
            return self._of(kind, first & (0x1F if kind == "str" else 0x0F))
        if first in _SIZED:
            kind, width = _SIZED[first]
            return self._of(kind, self._unsigned(width))
        if 0xD4 <= first <= 0xD8:
            return self._of("ext", 1 << (first - 0xD4))
        if first in _NUMBERS:
            code = ">" + _NUMBERS[first]
            return Token("plain", struct.unpack_from(code, self.memory, self._skip(struct.calcsize(code)))[0])
        if first not in _CONSTANTS:
            raise ValueError(f"no msgpack at byte {self.at - 1}")
        return Token("plain", _CONSTANTS[first])

    def text(self, token: Token) -> str:
        return bytes(self.memory[token.start : token.start + token.size]).decode()

    def _of(self, kind: str, size: int) -> Token:
        if kind in ("map", "array"):
            return Token(kind, size)
        code = self._unsigned(1) if kind == "ext" else None
        return Token(kind, code, self._skip(size), size)

    def _unsigned(self, width: int) -> int:
        start = self._skip(width)
        return int.from_bytes(self.memory[start : start + width], "big")

    def _skip(self, size: int) -> int:
        """Where the next `size` bytes begin."""
        start = self.at
        self.at += size
        if self.at > self.end:
            raise ValueError(f"an object at byte {start} goes beyond the end")
        return start


def integer(value: int) -> bytes:
    """A number >= 0."""
    if value < 0x80:
        return bytes([value])
    width = next(i for i in range(4) if value < 1 << (8 << i))
    return bytes([0xCC + width]) + value.to_bytes(1 << width, "big")


def text(value: str) -> bytes:
    data = value.encode()
    return (bytes([0xA0 + len(data)]) if len(data) < 32 else _sized(0xD9, len(data))) + data


def binary_head(size: int) -> bytes:
    return _sized(0xC4, size)


def ext_head(kind: int, size: int) -> bytes:
    fixed = {1 << i: 0xD4 + i for i in range(5)}
    head = bytes([fixed[size]]) if size in fixed else _sized(0xC7, size)
    return head + bytes([kind])


def _counted(small: int, large: int) -> Callable[[int], bytes]:
    def head(count: int) -> bytes:
        if count < 16:
            return bytes([small + count])
        return (
            bytes([large]) + count.to_bytes(2, "big")
            if count < 1 << 16
            else bytes([large + 1]) + count.to_bytes(4, "big")
        )

    return head


map_head, array_head = _counted(0x80, 0xDE), _counted(0x90, 0xDC)


def _sized(first: int, size: int) -> bytes:
    width = next(i for i in range(3) if size < 1 << (8 << i))
    return bytes([first + width]) + size.to_bytes(1 << width, "big")
