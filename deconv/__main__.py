"""``python -m deconv`` is the command `deconv`; ``torchrun -m deconv`` starts it n times."""

import sys

from deconv.cli import main

sys.exit(main())
