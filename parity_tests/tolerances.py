"""Every tolerance of the suite, with its reason. Nothing here is a guess about float32."""

# float64: the two are one function. Rounding through a dozen blocks is about 2e-15 of the largest
# value; the smallest mistake that we know (eps 1e-12 for 1e-6) moves a 12-layer output by 1.9e-6.
FORWARD = 1e-12

# timm and transformers make their rotary tables in float32, and keep them so in a float64 model: 6e-8 of an
# angle of up to 2 pi, or of 37 patches. Where a test makes theirs in float64, FORWARD holds.
ROPE = 1e-6

# Gradients add up over batch and tokens, and back through every layer: a digit more.
GRADIENT = 1e-11

# Some true gradients are zero (a k bias, a bias before a softmax), and what is left of them is noise
# of the others: a leaf is measured against its own largest value or this part of the largest anywhere.
GRADIENT_FLOOR = 1e-3

# float32 and bfloat16 noise is compared with noise: our error against float64 may be this many times
# PyTorch's, per layer, in root mean square. (Maxima scatter up to 1.9 times by chance.)
NOISE_RATIO = 1.5

# The ratio of two such means over n independent errors scatters by 1 / sqrt(n): 4% of these. Gradients of tensors
# with fewer values, such as a small model's biases, are judged together.
NOISE_VALUES = 512

# One resize is a product with two matrices of weights below 2: a few hundred roundings.
RESIZE = 1e-12

# float64: two ways to write one formula (a loss, an update, an augmentation).
EXACT = 1e-12

# A hundred updates carry rounding from one to the next: parameters in the norm of gradients, two digits
# wider; losses, which average over a batch, one.
PARAMETERS = 1e-9
LOSS = 1e-10

# A pixel in [0, 1] that is rescaled and normalised in float32 in another order: a few roundings.
PIXEL = 4 * 2.0**-24

# In float32 a sample's position is known to one rounding of the side, and the value there to as much, for
# neighbours are at most 1 apart: per pixel of height plus width.
POSITION = 2.0**-24

# Pillow and torchvision both resample bytes in integers, an axis at a time, rounding and cutting to a byte
# after each, but in another order and with weights of other widths. In levels of 255, as measured on
# photographs: cutting what bicubic overshoots is what costs more than one.
TORCHVISION_LEVELS = {"bilinear": 1, "bicubic": 4}
TORCHVISION_MEAN = 0.16

# Augmentation's warps, in levels of 255: Pillow interpolates in float64 and we in float32, and both cut the fraction
# off. Two cubics of eight roundings each, of sums below 2^11: only a value this close to a whole level may differ.
WARP = 16 * 2.0**-14
