"""Configs that each layout can hold, for hypothesis to draw."""

from collections.abc import Callable, Mapping
from typing import Any

from hypothesis import strategies as st

from parity_tests.strategies import configs
from vit_convert.config import ViTConfig
from vit_convert.layouts import LAYOUTS


@st.composite
def within_limits(
    draw: st.DrawFn, layout: str, of_pool: Callable[[str], Mapping[str, Any]] = lambda pool: {}
) -> ViTConfig:
    """A config within the layout's limits; `of_pool` are the fields that follow from the pooling."""
    limits = LAYOUTS[layout].limits
    pool = draw(st.sampled_from(limits["pool"]))
    fields = {name: st.sampled_from(values) for name, values in limits.items()}
    fields |= {name: st.just(value) for name, value in {"pool": pool, **of_pool(pool)}.items()}
    return draw(configs(**fields))


def class_token_if_pooled(pool: str) -> dict[str, Any]:
    """Google's: a class token where that is the output, and none where not."""
    return {"class_token": pool == "class"}


def table_for_all(pool: str) -> dict[str, Any]:
    """The same, and the position table covers the class token."""
    return {"class_token": pool == "class", "pos_prefix": "class" if pool == "class" else "none"}


HELD: dict[str, st.SearchStrategy[ViTConfig]] = {
    "vit_jax": within_limits("vit_jax", table_for_all),
    "big_vision": within_limits("big_vision", class_token_if_pooled),
    "scenic": within_limits("scenic", table_for_all),
}
