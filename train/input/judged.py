"""A whole split in batches, in order, every example once: to be judged."""

from collections.abc import Iterator
from contextlib import AbstractContextManager

import numpy as np

from train.input.batches import EvalBatch, ahead
from train.input.load import evaluated
from train.input.reader import Reader
from vit_convert.preprocess import Preprocess


def eval_batches(
    reader: Reader, preprocess: Preprocess, batch_size: int, rows: slice, prefetch: int
) -> AbstractContextManager[Iterator[EvalBatch]]:
    """These rows of all batches of the reader's split, read ahead, the last one filled up."""
    count, load, shape = len(reader.source), evaluated(preprocess), (*preprocess.crop, len(preprocess.mean))

    def make(at: int) -> EvalBatch:
        chosen = list(range(at * batch_size, (at + 1) * batch_size)[rows])
        images, labels, readable = reader.read_whole([min(i, count - 1) for i in chosen], load, shape)
        return EvalBatch(images, labels, readable & (np.array(chosen) < count))

    return ahead(make, 0, -(-count // batch_size), prefetch)
