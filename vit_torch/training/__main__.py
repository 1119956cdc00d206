"""python -m vit_torch.training: the specification's own loop, with the settings of a vit-train run or on the digits."""

import sys

from vit_torch.training.loop.command import main

if __name__ == "__main__":
    main(sys.argv[1:])
