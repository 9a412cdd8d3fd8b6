"""``python -m cmmulti`` is ``cmmulti``."""

import sys

from cmmulti.cli import main

if __name__ == "__main__":
    sys.exit(main())
