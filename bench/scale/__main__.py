"""`python -m bench.scale`."""

import sys

from bench.scale.run import main, parser
from bench.store import cli

sys.exit(cli.run(main, parser()))
