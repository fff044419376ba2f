"""``python -m difffs``."""

import sys

from difffs.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
