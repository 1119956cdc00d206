"""Layer-wise learning rates: the nearer to the image, the slower (Clark et al. 2020, section 3; Bao et al. 2022)."""

from vit_convert.layouts.native import hub_name


def layer_scale(path: str, depth: int, decay: float | None) -> float:
    """The part of the learning rate that the parameter of this Flax path gets: decay ** (depth + 1 - its layer)."""
    return 1.0 if decay is None else decay ** (depth + 1 - layer(hub_name(path), depth))


def layer(name: str, depth: int) -> int:
    """0 for what stands before the blocks, i + 1 for block i, depth + 1 for what stands behind them.

    As microsoft/unilm, beit/optim_factory.py, get_num_layer_for_vit, and facebookresearch/mae, util/lr_decay.py. One
    difference of timm's (ViT.group_matcher): there `norm`, between blocks and pooling, goes with the last block.
    """
    first, _, rest = name.partition(".")
    if first == "blocks":
        return int(rest.partition(".")[0]) + 1
    before = first in ("cls_token", "dist_token", "reg_token", "pos_embed", "patch_embed", "norm_pre")
    return 0 if before else depth + 1
