"""Layer-wise learning rates: the nearer to the image, the slower (Clark et al. 2020, section 3; Bao et al. 2022)."""

BEFORE_THE_BLOCKS = {"cls_token", "dist_token", "reg_token", "pos_embed", "patch_embed", "norm_pre"}


def layer_rate(name: str, depth: int, decay: float | None) -> float:
    """The part of the learning rate that the parameter of this hub name gets: decay ** (layers behind it).

    Behind what stands before the blocks lie all `depth` of them and the head; behind the last block, the head; behind
    what follows the blocks, the final norm included, nothing (microsoft/unilm, beit/optim_factory.py).
    """
    if decay is None:
        return 1.0
    first, _, rest = name.partition(".")
    if first in BEFORE_THE_BLOCKS:
        return decay ** (depth + 1)
    return decay ** (depth - int(rest.partition(".")[0])) if first == "blocks" else 1.0
