"""`python -m zoo` is the `zoo` command; torchrun starts it this way."""

import sys

from zoo.cli import main

sys.exit(main())
