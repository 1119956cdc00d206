"""Every tolerance of the suite, with its reason. Nothing here is a guess about float32.

How near the suite comes to each is in docs/parity.md, by `python -m parity_tests.margins`.
"""

from parity_tests.bound import Bound

FORWARD = Bound(
    "FORWARD",
    1e-12,
    "float64: the two are one function. Of the largest value; rounding through a dozen blocks is about 2e-15, and the "
    "smallest mistake that we know (eps 1e-12 for 1e-6) moves a 12-layer output by 1.9e-6.",
)

ROPE = Bound(
    "ROPE",
    1e-6,
    "timm and transformers make their rotary tables in float32, and keep them so in a float64 model: 6e-8 of an angle "
    "of up to 2 pi, or of 37 patches. Where a test makes theirs in float64, FORWARD holds.",
)

GRADIENT = Bound(
    "GRADIENT",
    1e-11,
    "Gradients add up over batch and tokens, and back through every layer: a digit more than FORWARD.",
)

PRODUCT_RATIO = Bound(
    "PRODUCT_RATIO",
    8.0,
    "How many times PyTorch's error XLA's may be in a matrix product alone, and still be another order of the same "
    "sum: 2.84 was measured at 3,072 terms, it grows with their square root, and 8 would take 24,000, more than any "
    "ViT has. What is beyond (products in bfloat16 behind float32's name) widens no bound further.",
)

GRADIENT_FLOOR = Bound(
    "GRADIENT_FLOOR",
    1e-3,
    "Some true gradients are zero (a k bias, a bias before a softmax), and what is left of them is noise of the "
    "others: a leaf is measured against its own largest value or this part of the largest anywhere.",
)

ZERO_GRADIENT = Bound(
    "ZERO_GRADIENT",
    1e-10,
    "A gradient that is zero by its formula (a bias of keys: it adds one number to all logits of a softmax) comes to "
    "1e-16 of the largest in float64. What is below this part of the largest has no size of its own to measure noise "
    "by: it is measured by the largest.",
)

NOISE_RATIO = Bound(
    "NOISE_RATIO",
    1.5,
    "float32 and bfloat16 noise is compared with noise: our error against float64 may be this many times PyTorch's, "
    "per layer, in root mean square. (Maxima scatter up to 1.9 times by chance.) vit-verify takes models of any width, "
    "whose long sums XLA and PyTorch's library add up in other orders: it allows a tensor this many times what the "
    "worst of the products that it comes of has alone, of the model's own lengths, measured beside it, and one of few "
    "values what such a ratio reaches by chance once in a million.",
)

RESIZE = Bound(
    "RESIZE",
    1e-12,
    "One resize is a product with two matrices of weights below 2: a few hundred roundings.",
)

EXACT = Bound(
    "EXACT",
    1e-12,
    "float64: two ways to write one formula (a loss, an update, an augmentation).",
)

ROUNDING = Bound(
    "ROUNDING",
    1e-15,
    "float64 numbers of at most 1 after one or two operations, such as the entries of a table of sines: absolute, a "
    "few times the 1.1e-16 that one rounding may cost.",
)

PARAMETERS = Bound(
    "PARAMETERS",
    1e-9,
    "A hundred updates carry rounding from one to the next: parameters in the norm of gradients, two digits wider.",
)

LOSS = Bound(
    "LOSS",
    1e-10,
    "The same hundred updates: losses average over a batch, so a digit less than PARAMETERS.",
)

FLOAT32 = Bound(
    "FLOAT32",
    1e-6,
    "One formula in float32 (a pixel, a learning rate, a loss of given logits) whose operations come in another "
    "order: 16 roundings of 6e-8. Whether two models are one function is never asked in float32.",
)

FLOAT32_CHAIN = Bound(
    "FLOAT32_CHAIN",
    1e-5,
    "A chain of float32 operations (a whole model, a short run, a decomposition), where a test asks whether the same "
    "weights and images went in: others would change the first digit.",
)

DRIFT = Bound(
    "DRIFT",
    1e-4,
    "Parameters after a dozen train steps in float32, beside those of the other framework or of float64, where a test "
    "asks whether rounding alone parts them: Adam divides by the size of a gradient, so that a small one's rounding "
    "counts as much as a large one's. Other batches or draws would change the first digit.",
)

NARROWED = Bound(
    "NARROWED",
    2.0**-23,
    "float32 draws beside the float64 ones that they are rounded from: two roundings, of each value itself.",
)

PIXEL = Bound(
    "PIXEL",
    4 * 2.0**-24,
    "A pixel in [0, 1] that is rescaled and normalised in float32 in another order: a few roundings.",
)

POSITION = Bound(
    "POSITION",
    2.0**-24,
    "In float32 a sample's position is known to one rounding of the side, and the value there to as much, for "
    "neighbours are at most 1 apart: per pixel of height plus width, and PIXEL besides.",
)

TORCHVISION_BILINEAR = Bound(
    "TORCHVISION_BILINEAR",
    1 + 255 * PIXEL,
    "Pillow and torchvision both resample bytes in integers, an axis at a time, rounding and cutting to a byte after "
    "each, but in another order and with weights of other widths: a level of 255, as measured on photographs.",
)

TORCHVISION_BICUBIC = Bound(
    "TORCHVISION_BICUBIC",
    4 + 255 * PIXEL,
    "As TORCHVISION_BILINEAR; cutting what bicubic overshoots is what costs more than one level.",
)

TORCHVISION_MEAN = Bound(
    "TORCHVISION_MEAN",
    0.16,
    "The same in the mean over a photograph, in levels of 255, as measured.",
)

WARP = Bound(
    "WARP",
    16 * 2.0**-14,
    "Augmentation's warps, in levels of 255: Pillow interpolates in float64 and we in float32, and both cut the "
    "fraction off. Two cubics of eight roundings each, of sums below 2^11: only a value this close to a whole level "
    "may differ.",
)

TORCHVISION_LEVELS = {"bilinear": TORCHVISION_BILINEAR, "bicubic": TORCHVISION_BICUBIC}


def resampled(size: tuple[int, int]) -> Bound:
    """POSITION of an image of this size, (height, width) or the other way round."""
    return POSITION.at(sum(size) * POSITION + PIXEL)
