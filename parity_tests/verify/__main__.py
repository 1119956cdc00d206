"""python -m parity_tests.verify: the command vit-verify"""

import sys

from parity_tests.verify.command import main

sys.exit(main())
