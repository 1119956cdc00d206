"""Which examples a step sees: a function of (seed, step) alone."""

import numpy as np
from grain.experimental import index_shuffle

ROUNDS = 4  # of the shuffle's Feistel network, as Grain's own MapDataset.shuffle


def batch_indices(seed: int, step: int, num_examples: int, batch_size: int, repeats: int = 1) -> np.ndarray:
    """The examples of a step's whole batch, over all hosts: (batch_size,) int64.

    Each epoch is another permutation, of which any place is computed on its own (Grain's index_shuffle), so that a
    step costs the same anywhere and with any number of examples; what fills no batch is left out. With `repeats` an
    image comes that many times in a row (DeiT's repeated augmentation: facebookresearch/deit, samplers.py), and an
    epoch sees as many fewer images.
    """
    epoch, position = divmod(step, num_examples // batch_size)
    shuffle_seed = int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])
    places = range(position * batch_size, (position + 1) * batch_size)
    return np.array([index_shuffle(at // repeats, num_examples - 1, shuffle_seed, ROUNDS) for at in places], np.int64)
