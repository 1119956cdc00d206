"""Images that a model finds alike: the nearest ones of a folder, and how good their labels are."""

from collections.abc import Sequence
from os import PathLike

import numpy as np
import numpy.typing as npt

from vit_tools.figures import new_figure, save_png

Features = npt.NDArray[np.float32]  # (N, D), of length 1
CHUNK = 256  # queries at once: their cosines with a million images are 1 GB


def nearest(queries: Features, gallery: Features, count: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float32]]:
    """(N, count) numbers of the gallery's images and their cosines, the nearest first; of equal ones the first."""
    chunks = [_nearest(queries[i : i + CHUNK] @ gallery.T, count) for i in range(0, len(queries), CHUNK)]
    order, cosines = zip(*chunks, strict=True)
    return np.concatenate(order), np.concatenate(cosines)


def _nearest(cosines: Features, count: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float32]]:
    """Of (N, M) cosines. A partition finds the least of the `count` best, and any of those that are equal to it, so
    these are counted in order: as a stable sort of all would have it, at a fraction of its time."""
    count = min(count, cosines.shape[1])
    cosines[np.isnan(cosines)] = -np.inf  # of a model whose weights aren't finite: the farthest
    least = np.partition(cosines, -count, axis=1)[:, -count, None]
    above, equal = cosines > least, cosines == least
    chosen = above | (equal & (equal.cumsum(1) <= count - above.sum(1, keepdims=True)))
    order = np.nonzero(chosen)[1].reshape(-1, count)  # of each row, by number
    found = np.take_along_axis(cosines, order, axis=1)
    best = np.argsort(-found, axis=1, kind="stable")
    return np.take_along_axis(order, best, axis=1), np.take_along_axis(found, best, axis=1)


def knn_predictions(
    queries: Features, gallery: Features, labels: npt.NDArray[np.int64], k: int, temperature: float = 0.07
) -> npt.NDArray[np.int64]:
    """The class that the k nearest images vote for, each with exp(cosine / temperature): (N,).

    Wu et al. 2018 (Unsupervised Feature Learning via Non-Parametric Instance Discrimination, section 3.4), with the
    temperature that DINO uses (facebookresearch/dino, eval_knn.py).
    """
    order, cosines = nearest(queries, gallery, k)
    votes = np.zeros((len(queries), int(labels.max()) + 1))
    weights = np.exp((cosines.astype(np.float64) - 1) / temperature)
    for column in range(order.shape[1]):
        np.add.at(votes, (np.arange(len(queries)), labels[order[:, column]]), weights[:, column])
    return votes.argmax(1)


def draw_nearest(
    rows: Sequence[tuple[npt.NDArray[np.uint8], Sequence[tuple[npt.NDArray[np.uint8], str]]]],
    path: str | PathLike[str],
) -> None:
    """A row a query: the query, and its neighbours (pixels, what to write above)."""
    columns = 1 + max(len(found) for _, found in rows)
    figure = new_figure(1.7 * columns, 1.9 * len(rows))
    cells = figure.subplots(len(rows), columns, squeeze=False)
    for cell in cells.flat:
        cell.set_axis_off()
    for (query, found), axes in zip(rows, cells, strict=True):
        axes[0].imshow(query)
        axes[0].set_title("asked", fontsize=8, loc="left", weight="bold")
        for (pixels, text), cell in zip(found, axes[1:], strict=False):
            cell.imshow(pixels)
            cell.set_title(text.replace("$", r"\$"), fontsize=8, loc="left")
    save_png(figure, path)
