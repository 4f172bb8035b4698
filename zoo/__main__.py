"""`python -m zoo` is the `zoo` command; torchrun starts it this way."""

from zoo.cli import console

console()
