"""Puts the fault named by FAULT into a process. Python runs this file at its start when its folder is on PYTHONPATH.

memory        the engine `dummy` takes memory without end as soon as it searches
back SECONDS  the clocks of the records and of `time.time` are set back
"""

import datetime
import importlib.abc
import importlib.util
import os
import sys
import time
from types import SimpleNamespace


class Changed(importlib.abc.MetaPathFinder):
    """Changes a module as soon as it is imported."""

    def __init__(self, name, change):
        self.name, self.change = name, change

    def find_spec(self, name, path, target=None):
        if name != self.name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        run = spec.loader.exec_module

        def exec_module(module):
            run(module)
            self.change(module)

        spec.loader.exec_module = exec_module
        return spec


def greedy(module) -> None:
    def without_end(*_, **__):
        taken = []
        while True:
            taken.append(b"x" * 10_000_000)
            time.sleep(0.02)

    module.Dummy.search = without_end


def earlier(module) -> None:
    """Another clock for that module alone: C extensions check the size of the class `datetime`."""
    back = datetime.timedelta(seconds=float(amount))
    clock = SimpleNamespace(now=lambda zone=None: datetime.datetime.now(zone) - back)
    module.datetime = SimpleNamespace(datetime=clock, UTC=datetime.UTC)


fault, _, amount = os.environ.get("FAULT", "").partition(" ")
if fault == "memory":
    sys.meta_path.insert(0, Changed("bench.engines.dummy", greedy))
elif fault == "back":
    now = time.time
    time.time = lambda: now() - float(amount)
    sys.meta_path.insert(0, Changed("bench.store.records", earlier))
