"""npz files, an entry at a time and never half-written."""

import shutil
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO

import numpy as np

from vit_convert.beside import beside, place_of, writing


class Spool:
    """An array (N, ...) of which the rows come a few at a time: they wait on the disk, not in memory, for an npy says
    how many there are before it has the first. The file has no name, so that nothing is left whatever happens."""

    def __init__(self, path: Path):
        """
        Args:
            path: of the npz. The rows wait on its disk, which has room for it; /tmp is often memory.

        Raises:
            NotWritten: the disk is full.
        """
        self._path = path
        with writing(path):
            self._file = tempfile.TemporaryFile(dir=place_of(path).parent)  # noqa: SIM115  # until `close`
        self.shape: tuple[int, ...] = (0,)
        self.dtype = np.dtype(np.float32)

    def append(self, rows: np.ndarray) -> None:
        """Rows (n, ...), of the shape and dtype of those before.

        Raises:
            NotWritten: the disk is full.
        """
        assert not self.shape[0] or (rows.shape[1:], rows.dtype) == (self.shape[1:], self.dtype)
        with writing(self._path):
            self._file.write(np.ascontiguousarray(rows).data)
        self.shape, self.dtype = (self.shape[0] + len(rows), *rows.shape[1:]), rows.dtype

    def write_npy(self, out: IO[bytes]) -> None:
        """What np.save writes of all rows, a piece at a time."""
        descr = np.lib.format.dtype_to_descr(self.dtype)
        np.lib.format.write_array_header_1_0(out, {"descr": descr, "fortran_order": False, "shape": self.shape})
        self._file.seek(0)
        shutil.copyfileobj(self._file, out)

    def close(self) -> None:
        self._file.close()


def write_npz(path: Path, entries: Iterable[tuple[str, np.ndarray | Spool]]) -> None:
    """What np.savez_compressed writes, of arrays that need not be there all at once. Beside path, then renamed. No
    pickle: names are arrays of strings.

    Raises:
        NotWritten: the disk is full; nothing of it is left.
    """
    with beside(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, array in entries:
            with zipped.open(f"{name}.npy", "w", force_zip64=True) as entry:  # its size is not known before
                if isinstance(array, Spool):
                    array.write_npy(entry)
                else:
                    np.lib.format.write_array(entry, np.asarray(array), allow_pickle=False)
