"""Mistakes in moving checkpoints: axes, orders, what a family's code fixes, the named one-way changes."""

from functools import partial

from parity_tests.mutants.mutant import Mutant

google = partial(Mutant, file="vit_convert/layouts/google.py", promise="file: vit_jax")
native = partial(Mutant, file="vit_convert/layouts/native.py")
common = partial(Mutant, file="vit_convert/layouts/transformers/common.py")
steps = partial(Mutant, file="vit_convert/steps.py")

MUTANTS = (
    native(
        name="missing transpose of a square matrix",
        old='f"{layer}.weight", "i o -> o i") for layer',
        new='f"{layer}.weight", "" if layer.endswith("attn.proj") else "i o -> o i") for layer',
        who="who trusts that a wrong axis gives a wrong shape",
        promise="model: plain",
    ),
    native(
        name="rows and columns of a patch swapped",
        old='"h w i o -> o i h w"',
        new='"w h i o -> o i h w"',
        who="who transposes OIHW to WHIO, which square patches don't show",
        promise="file: vit_jax",
    ),
    google(
        name="heads of the output kernel behind their channels",
        old='axes("heads d o", "o (heads d)")',
        new='axes("heads d o", "o (d heads)")',
        who="who merges the axes of a kernel (H, D/H, D) after a transpose",
    ),
    google(
        name="heads of q, k and v behind their channels",
        old='f"{parts}i heads d -> {stack}(part heads d) i"',
        new='f"{parts}i heads d -> {stack}(part d heads) i"',
        who="who merges the axes of a kernel (D, H, D/H) after a transpose",
    ),
    google(
        name="parts inside heads",
        old='f"{parts}i heads d -> {stack}(part heads d) i"',
        new='f"{parts}i heads d -> {stack}(heads part d) i"',
        who="who fuses q, k and v head by head",
    ),
    google(
        name="heads of the pooling kernels behind their channels",
        old='"i heads d -> (heads d) i"',
        new='"i heads d -> (d heads) i"',
        who="who merges the axes of a kernel (D, H, D/H) after a transpose",
        promise="file: big_vision, attention pooling",
    ),
    google(
        name="exact GELU for Google's files",
        old='"act": "gelu_tanh"',
        new='"act": "gelu"',
        who="timm and transformers, for the same weights",
    ),
    google(
        name="bicubic for Google's files",
        old='"pos_resize": "bilinear_corners"',
        new='"pos_resize": "bicubic"',
        who="who resizes every table alike",
    ),
    Mutant(
        name="DINOv2 resized without its offset",
        file="vit_convert/layouts/dinov2.py",
        old='return "bicubic_antialias" if registers else "bicubic_offset"',
        new='return "bicubic"',
        who="transformers, for the same weights",
        promise="file: dinov2",
    ),
    Mutant(
        name="gate and value of a SwiGLU packed the other way",
        file="vit_convert/layouts/dinov3.py",
        old='"packed": ["w1", "w2"] if swiglu else [],',
        new='"packed": ["w2", "w1"] if swiglu else [],',
        who="who stacks w2 on w1",
        promise="file: dinov3, swiglu",
    ),
    Mutant(
        name="CLIP's epsilon for DINOv2's",
        file="vit_convert/layouts/dinov2.py",
        old='"norm_eps": 1e-6, "rope": "none"',
        new='"norm_eps": 1e-5, "rope": "none"',
        who="who leaves torch's LayerNorm at its default",
        promise="file: dinov2",
    ),
    common(
        name="key before query",
        old='"part": ("query", "key", "value"),',
        new='"part": ("key", "query", "value"),',
        who="who fuses three projections in the order of the alphabet",
        promise="file: transformers vit",
    ),
    common(
        name="gelu_pytorch_tanh read as gelu",
        old='"gelu_pytorch_tanh": "gelu_tanh",',
        new='"gelu_pytorch_tanh": "gelu",',
        who="who looks for the word gelu in hidden_act",
        promise="file: transformers siglip",
    ),
    common(
        name="quick_gelu read as gelu",
        old='"quick_gelu": "quick_gelu",',
        new='"quick_gelu": "gelu",',
        who="who looks for the word gelu in hidden_act",
        promise="file: transformers clip",
    ),
    Mutant(
        name="packed projections of the pooling read row by row",
        file="vit_convert/layouts/transformers/siglip.py",
        old='"(qkv o) i -> qkv o i"',
        new='"(o qkv) i -> qkv o i"',
        who="who splits in_proj_weight with the wrong axis outermost",
        promise="file: transformers siglip",
    ),
    steps(
        name="v bias saved in k's place",
        old="bias[2 * config.dim :] =",
        new="bias[config.dim : 2 * config.dim] =",
        who="who packs the two biases of BEiT and EVA one after the other",
        promise="saved: q and v biases as transformers",
    ),
    steps(
        name="class token's position lost where the table has no row for it",
        old="(held[name].astype(np.float64) + rows).astype(held[name].dtype)",
        new="held[name]",
        who="who cuts the table to the patches' rows",
        promise="saved: class position as big_vision",
    ),
    steps(
        name="row of zeros behind the table",
        old="np.concatenate([np.zeros((1, rows, config.dim), array.dtype), array], axis=1)",
        new="np.concatenate([array, np.zeros((1, rows, config.dim), array.dtype)], axis=1)",
        who="who pads a table at its end",
        promise="saved: no class position as transformers",
    ),
)
