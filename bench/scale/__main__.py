"""`python -m bench.scale`, the same as `lexlip-bench scale`."""

import sys

from bench.__main__ import command

sys.exit(command("scale", sys.argv[1:], prog="python -m bench.scale"))
