"""python -m parity_tests.golden.make FAMILY --repository CHECKOUT: makes the golden files of a family again.

CHECKOUT is a clone of the family's public repository, at the commit that the .json files name; none of its
code is kept here, and none is changed: it is imported, its models are filled with seeded random weights, saved
as the family saves, and run in float64. What had to be changed at run time for that stands in the .json files.

    python -m parity_tests.golden.make dinov2 --repository dinov2

The Python that runs this needs what the family's code imports, as well as NumPy: timm 0.3.2 for mae and deit,
ml_collections for Google's. The two families of transformers need no checkout but transformers 4.57.6 installed,
with torch, or with jax and flax.
"""

import argparse
import importlib
import sys
from pathlib import Path

from parity_tests.golden.case import git_repository, write

COMMAND = "python -m parity_tests.golden.make"
TRANSFORMERS = "4.57.6"

# Family -> the module here that knows it, and its public repository.
FAMILIES = {
    "deit": ("meta_mae", "facebookresearch/deit"),
    "dino": ("meta_dino", "facebookresearch/dino"),
    "dinov2": ("meta_dino", "facebookresearch/dinov2"),
    "big_vision": ("google_big_vision", "google-research/big_vision"),
    "dinov3": ("meta_dino", "facebookresearch/dinov3"),
    "mae": ("meta_mae", "facebookresearch/mae"),
    "scenic": ("google_scenic", "google-research/scenic"),
    "transformers_4": ("transformers_4", "huggingface/transformers"),
    "transformers_4_flax": ("transformers_4", "huggingface/transformers"),
    "vision_transformer": ("google_vision_transformer", "google-research/vision_transformer"),
}


def main(arguments: list[str] | None = None) -> int:
    """Writes the family's files beside this module and prints their paths."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("family", choices=sorted(FAMILIES))
    parser.add_argument("--repository", type=Path, help="checkout of the family's repository")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    options = parser.parse_args(arguments)
    module, repository = FAMILIES[options.family]
    command, source = f"{COMMAND} {options.family}", {"commit": f"v{TRANSFORMERS}"}
    if options.repository:
        sys.path.insert(0, str(options.repository.resolve()))
        command, source = f"{command} --repository CHECKOUT", git_repository(options.repository)
    for case in getattr(importlib.import_module(f"parity_tests.golden.{module}"), options.family)():
        print(write(case, options.out, {"repository": repository} | source, command))
    return 0


if __name__ == "__main__":
    sys.exit(main())
