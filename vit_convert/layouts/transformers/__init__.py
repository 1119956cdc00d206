"""transformers' classes: a file per group of classes that share their names, a layout per model_type."""

from vit_convert.layouts.transformers.clip import CLIP
from vit_convert.layouts.transformers.dinov2 import LAYOUTS as DINOV2
from vit_convert.layouts.transformers.dinov3 import DINOV3
from vit_convert.layouts.transformers.siglip import SIGLIP
from vit_convert.layouts.transformers.vit import LAYOUTS as VIT

# In the order in which `--to transformers` tries them: the most common first.
TRANSFORMERS = (*VIT, *DINOV2, DINOV3, SIGLIP, CLIP)
