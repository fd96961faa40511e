"""`python -m haldane.demo`, the same as `haldane demo`."""

import sys

from haldane.demo import main

sys.exit(main())
