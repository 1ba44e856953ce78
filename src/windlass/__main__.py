"""`python -m windlass`, and the `windlass` command."""

import sys

from windlass.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
