"""The metric registry: label, direction, unit and definition of every metric, read from `metrics.yaml` at first use."""

import difflib
import functools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

TABLE = Path(__file__).with_name("metrics.yaml")
PLACEHOLDER = re.compile(r"\{([^}]*)\}")


class Metric(NamedTuple):
    """direction: "higher" or "lower" is better, "" for neither."""

    label: str
    direction: str
    unit: str
    definition: str

    def filled(self, value: str) -> "Metric":
        """The metric with the placeholder {} replaced."""
        return Metric(*(field.replace("{}", value.replace("_", " ")) for field in self))


class Registry(Mapping[str, Metric]):
    """Metric name -> `Metric`. Iteration gives the names without open placeholders, in the order of the table.

    A name such as `loss_text_bottleneck` matches the open pattern `loss_{PART}`. Any other unknown name is a KeyError
    that names the nearest known metric.
    """

    def __init__(self, table: Path = TABLE):
        self.table = table

    @functools.cached_property
    def _read(self) -> tuple[dict[str, Metric], dict[str, Metric]]:
        """Metrics by name, and by the prefix of an open pattern."""
        import yaml

        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        names, prefixes = {}, {}
        for name, (fields, definition) in yaml.load(self.table.read_text(encoding="utf-8"), loader).items():
            metric, placeholder = Metric(*fields, definition), PLACEHOLDER.search(name)
            if placeholder is None:
                names[name] = metric
            elif "|" in placeholder[1]:
                for value in placeholder[1].split("|"):
                    names[name.replace(placeholder[0], value)] = metric.filled(value)
            else:
                prefixes[name[: placeholder.start()]] = metric
        return names, prefixes

    def __getitem__(self, name: str) -> Metric:
        names, prefixes = self._read
        if name in names:
            return names[name]
        for prefix, metric in prefixes.items():
            if name.startswith(prefix) and name != prefix:
                return metric.filled(name.removeprefix(prefix))
        nearest = difflib.get_close_matches(name, names, n=1, cutoff=0)
        raise KeyError(f"unknown metric '{name}': the nearest known one is '{nearest[0]}'")

    def __iter__(self) -> Iterator[str]:
        return iter(self._read[0])

    def __len__(self) -> int:
        return len(self._read[0])


METRICS = Registry()
