"""npz files, an entry at a time and never half-written."""

import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from vit_convert.beside import beside


def write_npz(path: Path, entries: Iterable[tuple[str, np.ndarray]]) -> None:
    """What np.savez_compressed writes, of arrays that need not be there all at once. Beside path, then renamed. No
    pickle: names are arrays of strings.

    Raises:
        OSError: it can't be written; nothing of it is left.
    """
    with beside(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, array in entries:
            with zipped.open(f"{name}.npy", "w", force_zip64=True) as entry:  # its size is not known before
                np.lib.format.write_array(entry, np.asarray(array), allow_pickle=False)
