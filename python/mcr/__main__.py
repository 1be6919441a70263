"""`python -m mcr` is the command `mcr`."""

import sys

from .cli import main

sys.exit(main())
