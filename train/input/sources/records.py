"""Records of ArrayRecord files by number, from any thread."""

import threading
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, Protocol

# Without threads of its own: they take thirty times as long as the reading of a small record.
OPTIONS = "readahead_buffer_size:0,max_parallelism:0"


class Part(Protocol):
    """A file's records from `skip` on, `take` of them, as TFDS' FileInstruction says it."""

    filename: str
    skip: int
    take: int


class Records:
    """The records of the parts, one part after another.

    array_record's own data source starts threads in every call: 50 microseconds a record in batches of 64, where
    this takes 6 (28 x 28 pixels in PNG, of one file).
    """

    def __init__(self, parts: Sequence[Part]):
        self.parts = parts
        self.ends = list(accumulate(part.take for part in parts))
        self.locks = [threading.Lock() for _ in parts]
        self.readers: list[Any] = [None] * len(parts)

    def __len__(self) -> int:
        return self.ends[-1] if self.ends else 0

    def __getitem__(self, index: int) -> bytes:
        """
        Raises:
            IndexError: there is no such record.
            OSError: it can't be read.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        at = bisect_right(self.ends, index)
        part = self.parts[at]
        with self.locks[at]:
            if self.readers[at] is None:
                self.readers[at] = _open(part.filename)
            try:
                self.readers[at].seek(part.skip + index - self.ends[at] + part.take)
                return self.readers[at].read()
            except (IndexError, RuntimeError, ValueError) as error:
                raise OSError(f"{part.filename}: record {index} can't be read: {error}") from error


def _open(filename: str) -> Any:
    from array_record.python.array_record_module import ArrayRecordReader

    return ArrayRecordReader(str(filename), options=OPTIONS)
