"""Options of a command line that are given, but empty: to Path such a name is the current folder."""

from collections.abc import Mapping, Sequence
from itertools import pairwise


def empty_option(words: Sequence[str], expected: Mapping[str, str]) -> str:
    """What to say of an option that is given an empty value, as `--workdir ""` or `--workdir=`; "" where none is.

    Args:
        expected: by the options that take no empty value: what to give, as "a folder".
    """
    following = dict.fromkeys(word for word, value in pairwise(words) if not value)
    joined = dict.fromkeys(word[:-1] for word in words if word.endswith("="))
    option = next((word for word in (*following, *joined) if word in expected), None)
    return f"{option} is empty: expected {expected[option]}; an unset variable of the shell?" if option else ""
