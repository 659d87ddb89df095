"""``python -m deconv`` is the command `deconv`; ``torchrun -m deconv`` starts it n times."""

from deconv.cli import main

main()
