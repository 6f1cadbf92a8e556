"""`python -m steppe_lab.cli` is the `steppe` command."""

import sys

from steppe_lab.cli import main

if __name__ == "__main__":
    sys.exit(main())
