"""The next tensor is made while the last one is written: one ahead and never more, in order, errors at their place."""

import threading

import numpy as np
import pytest

from vit_convert.ahead import ahead

ARRAYS = [(f"tensor{i}", np.full(2, i, np.float64)) for i in range(4)]


def test_the_stream_comes_whole_and_in_order():
    assert list(ahead(iter(ARRAYS))) == ARRAYS
    assert list(ahead([])) == []


def test_the_next_is_made_meanwhile_and_no_more_than_it():
    made = [threading.Event() for _ in ARRAYS]

    def making():
        for event, pair in zip(made, ARRAYS, strict=True):
            event.set()
            yield pair

    stream = ahead(making())
    for i in range(len(ARRAYS) - 1):
        next(stream)
        assert made[i + 1].wait(10)  # without being asked for
        assert [event.is_set() for event in made].count(True) == i + 2


def test_an_error_comes_where_it_happened():
    def breaks():
        yield from ARRAYS[:2]
        raise OSError("a cut file")

    stream = ahead(breaks())
    assert [next(stream), next(stream)] == ARRAYS[:2]
    with pytest.raises(OSError, match="a cut file"):
        next(stream)


def test_a_reader_that_goes_away_leaves_no_thread():
    before = threading.active_count()
    stream = ahead(iter(ARRAYS))
    next(stream)
    stream.close()
    assert threading.active_count() == before
