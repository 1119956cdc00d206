"""Which examples a step sees: a function of (seed, step) alone."""

import numpy as np

from train.input.shuffle import shuffled


def batch_indices(seed: int, step: int, num_examples: int, batch_size: int, repeats: int = 1) -> np.ndarray:
    """The examples of a step's whole batch, over all hosts: (batch_size,) int64.

    Each epoch is another permutation, of which any place is computed on its own (as Grain's index_shuffle), so that a
    step costs the same anywhere and with any number of examples; what fills no batch is left out. With `repeats` an
    image comes that many times in a row (DeiT's repeated augmentation: facebookresearch/deit, samplers.py), and an
    epoch sees as many fewer images.
    """
    epoch, position = divmod(step, num_examples // batch_size)
    shuffle_seed = int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])
    places = np.arange(position * batch_size, (position + 1) * batch_size) // repeats
    return shuffled(places, num_examples, shuffle_seed)
