"""Mistakes in the maths of positions, which both frameworks share: resizing, sine-cosine tables, rotary tables."""

from functools import partial

from parity_tests.mutants.mutant import Mutant

positions = partial(Mutant, file="vit_convert/positions.py")

MUTANTS = (
    positions(
        name="bicubic with a = -0.5",
        old="{False: -0.75, True: -0.5}",
        new="{False: -0.5, True: -0.5}",
        who="whose framework is JAX, TensorFlow or Pillow: torch's plain bicubic is another",
        promise="resize: bicubic",
    ),
    positions(
        name="antialiased bicubic with a = -0.75",
        old="{False: -0.75, True: -0.5}",
        new="{False: -0.75, True: -0.75}",
        who="who thinks that torch has one bicubic: with antialias it is Pillow's",
        promise="resize: bicubic_antialias",
    ),
    positions(
        name="antialias on",
        old='stretch = max(scale, 1.0) if variant == "antialias" else 1.0',
        new="stretch = max(scale, 1.0)",
        who="whose framework is JAX: jax.image.resize has it on",
        promise="resize: bicubic",
    ),
    positions(
        name="antialias off",
        old='stretch = max(scale, 1.0) if variant == "antialias" else 1.0',
        new="stretch = 1.0",
        who="whose framework is torch: interpolate has it off, timm's tables have it on",
        promise="resize: bicubic_antialias",
    ),
    positions(
        name="border left out and weights scaled",
        old='_cut(weights, taps, n_in) if variant == "antialias" else _clamp(weights, taps, n_in)',
        new="_cut(weights, taps, n_in)",
        who="whose framework is JAX; torch repeats the border",
        promise="resize: bilinear",
    ),
    positions(
        name="DINO's offset of 0.1 dropped",
        old='n_in / (n_out + 0.1) if variant == "offset" else n_in / n_out',
        new="n_in / n_out",
        who="who takes the 0.1 for a trick against rounding: it moves the samples",
        promise="resize: bicubic_offset",
    ),
    positions(
        name="samples at corners of pixels",
        old="(np.arange(n_out, dtype=np.float64) + 0.5) * scale - 0.5, scale",
        new="np.arange(n_out, dtype=np.float64) * scale, scale",
        who="who has TensorFlow 1's resize in mind",
        promise="resize: bilinear",
    ),
    positions(
        name="half-pixel centres for aligned corners",
        old="scale = (n_in - 1) / (n_out - 1) if n_out > 1 else 0.0",
        new="scale = n_in / n_out",
        who="who drops align_corners=True, which torchvision and Google's zoom have",
        promise="resize: bicubic_corners",
    ),
    positions(
        name="MAE's frequencies for big_vision's",
        old="(np.arange(dim // 4) / (dim // 4 - 1))",
        new="(np.arange(dim // 4) / (dim // 4))",
        who="who thinks that there is one 2D sine-cosine table",
        promise="file: big_vision, fixed positions",
    ),
    positions(
        name="rows before columns in the sine-cosine table",
        old="[np.sin(x), np.cos(x), np.sin(y), np.cos(y)]",
        new="[np.sin(y), np.cos(y), np.sin(x), np.cos(x)]",
        who="who writes y before x",
        promise="file: big_vision, fixed positions",
    ),
    positions(
        name="rotary coordinates at the corners of patches",
        old="(2 * (np.arange(n) + 0.5) / n - 1)",
        new="(2 * np.arange(n) / n - 1)",
        who="who forgets DINOv3's half patch",
        promise="file: dinov3",
    ),
    positions(
        name="rotary pairs as neighbours",
        old='np.repeat(angles, 2, axis=1) if config.rope == "eva02" else np.tile(angles, 2)',
        new="np.repeat(angles, 2, axis=1)",
        who="who has one repository's table and the other's rotation",
        promise="file: dinov3",
    ),
    positions(
        name="rotary grid with columns first",
        old='indexing="ij"',
        new='indexing="xy"',
        who="who leaves np.meshgrid at its default",
        promise="file: dinov3",
    ),
    positions(
        name="rotary periods not rounded",
        old='periods.astype(ml_dtypes.bfloat16).astype(np.float64) if config.rope_round_periods == "bfloat16" else',
        new="",
        who="timm and transformers: DINOv3's files hold periods in bfloat16",
        promise="file: dinov3",
    ),
)
