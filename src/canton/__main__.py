"""`python -m canton` is `canton`."""

import sys

from canton.cli import main

if __name__ == "__main__":
    sys.exit(main())
