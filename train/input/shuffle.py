"""Grain's index_shuffle of many places at once: any place of a permutation, computed on its own.

From google/grain, grain/_src/python/experimental/index_shuffle/index_shuffle.cc, whose binding takes one place a call,
2 to 11 microseconds each: a cipher on the least even number of bits, 16 at least, that holds every number, applied
again to what is too large (cycle-walking: Black & Rogaway 2002). The cipher is Simon (Beaulieu et al. 2013) of few
rounds, its keys C++'s std::seed_seq's.
"""

from functools import lru_cache

import numpy as np

ROUNDS = 4  # as Grain's own MapDataset.shuffle
LEAST_BITS = 16
WHOLE = 2**LEAST_BITS  # of fewer numbers most are too large and walks are long: all places are computed, and kept


def shuffled(places: np.ndarray, count: int, seed: int) -> np.ndarray:
    """What stands at these places of the seed's permutation of 0 to count - 1: (N,) int64.

    The numbers are Grain's index_shuffle(place, count - 1, seed, 4), but for a count of 2^n + 1 with an even n of 16
    or more, where Grain's is no permutation.
    """
    if count <= WHOLE:
        return _permutation(count, seed)[places]
    return _walked(places, count, seed)


@lru_cache(maxsize=4)
def _permutation(count: int, seed: int) -> np.ndarray:
    """All places at once: from every number to where its walk leads, twice as far each time."""
    leads = _encrypted(np.arange(WHOLE, dtype=np.uint64), _round_keys(seed), LEAST_BITS // 2).astype(np.int64)
    while (too_large := leads >= count)[:count].any():
        leads = np.where(too_large, leads[leads], leads)
    return leads[:count]


def _walked(places: np.ndarray, count: int, seed: int) -> np.ndarray:
    word, keys = ((count - 1).bit_length() + 1) // 2, _round_keys(seed)
    found = np.empty(len(places), np.int64)
    walking, values = np.arange(len(places)), places.astype(np.uint64)
    while len(walking):
        values = _encrypted(values, keys, word)
        done = values < count
        found[walking[done]] = values[done]
        walking, values = walking[~done], values[~done]
    return found


def _encrypted(values: np.ndarray, keys: tuple[int, ...], word: int) -> np.ndarray:
    """Simon's rounds on blocks of two words of so many bits."""
    mask, width = np.uint64(2**word - 1), np.uint64(word)
    left, right = values >> width, values & mask

    def mixed(x: np.ndarray, key: int) -> np.ndarray:
        by_1, by_2, by_8 = ((x << np.uint64(n) | x >> np.uint64(word - n)) & mask for n in (1, 2, 8))
        return by_1 & by_8 ^ by_2 ^ np.uint64(key) & mask

    for first, second in zip(keys[::2], keys[1::2], strict=True):
        left = left ^ mixed(right, first)
        right = right ^ mixed(left, second)
    return left << width | right


def _round_keys(seed: int) -> tuple[int, ...]:
    """std::seed_seq{seed}.generate of ROUNDS words (ISO C++, [rand.util.seedseq], where all names are these)."""
    n, s, t = ROUNDS, 1, (ROUNDS - 1) // 2
    p, m = (n - t) // 2, max(s + 1, n)
    q, words = p + t, [0x8B8B8B8B] * n

    def scrambled(x: int, factor: int) -> int:
        x %= 2**32
        return factor * (x ^ x >> 27) % 2**32

    for k in range(m):
        r1 = scrambled(words[k % n] ^ words[(k + p) % n] ^ words[(k - 1) % n], 1664525)
        r2 = r1 + (s if k == 0 else k % n + (seed if k <= s else 0))
        words[(k + p) % n] = (words[(k + p) % n] + r1) % 2**32
        words[(k + q) % n] = (words[(k + q) % n] + r2) % 2**32
        words[k % n] = r2 % 2**32
    for k in range(m, m + n):
        r3 = scrambled(words[k % n] + words[(k + p) % n] + words[(k - 1) % n], 1566083941)
        r4 = (r3 - k % n) % 2**32
        words[(k + p) % n] ^= r3
        words[(k + q) % n] ^= r4
        words[k % n] = r4
    return tuple(words)
