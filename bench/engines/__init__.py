"""Search engines, dense and lexicon.

`contract` is their interface, `registry` makes them by name, `indexes` builds and opens their indexes.
"""

from bench.engines.contract import BY_URL, EMBEDDED, NO_RESULT, NO_SCORE, SHARDED, Engine
from bench.engines.registry import code_id, default_names, get, grid, knob_names, modules, names

__all__ = [
    "BY_URL",
    "EMBEDDED",
    "NO_RESULT",
    "NO_SCORE",
    "SHARDED",
    "Engine",
    "code_id",
    "default_names",
    "get",
    "grid",
    "knob_names",
    "modules",
    "names",
]
