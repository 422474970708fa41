"""What a search service costs in machines, memory, disk and money, from measured curves and stated prices. Pure arithmetic; `static/cost.js` mirrors it.

Notable choices
- Between measured sizes a value is a power law through its two neighbours; beyond the largest, through the largest with the fitted exponent, and the
  range of the cost is that of the slopes seen between the sizes that were fitted and of the rounds that were timed. Below the smallest it is as there.
- An index that a machine has no memory for is cut into shards of equal size, each asked for every query; rates are taken at the size of a shard.
- Quality falls with the gallery, and what is lost to exact search falls with it: beyond the largest size the loss is judged there.
- Rates are of one core: those of a call over its threads. More cores are taken to answer as many times more queries.
- Memory is what the process held beside its index, and the index as it was loaded: both in the machine's memory, whatever the engine leaves on disk.
- Cores, memory and disk are paid for as used; machines say how many are needed to hold them.
- Encoding of queries and images is left out: it is the same for all engines of a model.
"""

import bisect
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from bench.store.config import read_yaml
from models.errors import InputError

DEFAULTS = Path(__file__).with_name("cost.yaml")
GB = 1e9
ROUNDING = 1e-9
NOT_TIMED = "not timed in this way"
NOT_EXTRAPOLATED = "measured at too few sizes to say"
TOO_LOW = "quality not reached"
TOO_LARGE = "does not fit into the memory of a machine, however it is cut"
Images = Annotated[float, Field(gt=0, le=1e15, allow_inf_nan=False)]
AtLeast0 = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Above0 = Annotated[float, Field(gt=0, allow_inf_nan=False)]


@dataclass(frozen=True)
class Need:
    """What is asked of the service. `call`: mode and threads, as `Call.key`; qualities are shares; `most_lost`: to exact search of the same model, over
    as many images or the most that were measured.
    """

    __pydantic_config__ = {"extra": "forbid"}

    images: Images
    qps: AtLeast0
    call: str
    least_quality: AtLeast0
    most_lost: AtLeast0
    name: str = ""


@dataclass(frozen=True)
class Assumptions:
    """Prices and machines as the user states them; `cost.yaml` says what each is."""

    __pydantic_config__ = {"extra": "forbid"}

    currency: str
    core_hour: AtLeast0
    memory_gb_month: AtLeast0
    disk_gb_month: AtLeast0
    hours_per_month: Above0
    cores: Annotated[int, Field(ge=1)]
    memory_gb: Above0
    utilisation: Annotated[float, Field(gt=0, le=1)]
    headroom: AtLeast0
    scenarios: tuple[Need, ...] = ()


@dataclass(frozen=True)
class Curve:
    """A value at each measured size, ascending; all positive. Exponents beyond the largest: fitted, the least and the greatest seen; None: too few sizes."""

    images: tuple[int, ...]
    values: tuple[float, ...]
    fitted: float | None = None
    least: float | None = None
    greatest: float | None = None

    def at(self, images: float, exponent: float | None) -> float | None:
        """The value over so many images; None where it would have to be extrapolated without an exponent."""
        if images <= self.images[0]:
            return self.values[0]
        if images > self.images[-1]:
            return None if exponent is None else self.values[-1] * (images / self.images[-1]) ** exponent
        i = bisect.bisect_left(self.images, images)
        share = math.log(images / self.images[i - 1]) / math.log(self.images[i] / self.images[i - 1])
        return self.values[i - 1] * (self.values[i] / self.values[i - 1]) ** share


@dataclass(frozen=True)
class Called:
    """How fast a setting answers one call. `slowest`, `fastest`: of the timed rounds, over their median."""

    threads: int
    rate: Curve
    slowest: float = 1.0
    fastest: float = 1.0
    points: tuple[str, ...] = ()


@dataclass(frozen=True)
class Setting:
    """A way of searching as it grows. `best`: quality of exact search of the same model; memory is `fixed_memory` + `memory_per_byte` x index bytes.

    `grows_as`: the setting of the same engine whose growth it is given, "" where its own was measured.
    """

    label: str
    kind: str
    variant: str
    engine: str
    quality: Curve
    best: Curve
    index_bytes: Curve
    fixed_memory: float
    memory_per_byte: float
    calls: dict[str, Called]
    grows_as: str = ""
    points: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """What a service takes. `machines` = shards x copies; memory and disk in bytes over all machines; money per month, `low` to `high`."""

    quality: float
    shards: int
    copies: int
    machines: int
    cores: int
    memory: float
    disk: float
    money: float
    low: float
    high: float
    extrapolated: bool


@dataclass(frozen=True)
class Choice:
    """The cheapest setting of an engine that is good enough, or why there is none; `best`: then the highest quality it has, where known."""

    engine: str
    kind: str
    variant: str
    setting: Setting | None
    plan: Plan | None
    why: str = ""
    best: float | None = None


def read(path: Path | None = None) -> Assumptions:
    """The stated assumptions. Raises InputError for a file that is not readable, lacks a key, or has an unknown or impossible one."""
    path = path or DEFAULTS
    try:
        return TypeAdapter(Assumptions).validate_python(read_yaml(path))
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(
            f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']} (got {first.get('input')!r})"
        ) from None


def plan(setting: Setting, need: Need, assumed: Assumptions) -> Plan | str:
    """What serving `need` with a setting takes, or why it cannot be said."""
    called = setting.calls.get(need.call)
    if called is None:
        return NOT_TIMED
    quality = setting.quality.at(need.images, setting.quality.fitted)
    if quality is None:
        return NOT_EXTRAPOLATED
    judged = min(need.images, setting.best.images[-1], setting.quality.images[-1])
    lost = setting.best.at(judged, None) - setting.quality.at(judged, None)
    if quality < need.least_quality - ROUNDING or lost > need.most_lost + ROUNDING:
        return TOO_LOW
    rate, stored = called.rate, setting.index_bytes
    found = []
    for rate_exponent, bytes_exponent, factor in (
        (rate.fitted, stored.fitted, 1.0),
        (rate.greatest, stored.least, called.fastest),
        (rate.least, stored.greatest, called.slowest),
    ):
        made = _provision(setting, called, need, assumed, rate_exponent, bytes_exponent, factor)
        if isinstance(made, str):
            return made
        found.append(made)
    shards, copies, cores, memory, disk, money = found[0]
    bounds = [one[-1] for one in found]
    return Plan(
        quality,
        shards,
        copies,
        shards * copies,
        cores,
        memory,
        disk,
        money,
        min(bounds),
        max(bounds),
        need.images > stored.images[-1],
    )


def choose(settings: list[Setting], need: Need, assumed: Assumptions) -> list[Choice]:
    """The cheapest good enough setting of each engine, cheapest first; then the engines that have none."""
    by_engine: dict[tuple, list[Setting]] = {}
    for setting in settings:
        by_engine.setdefault((setting.engine, setting.kind, setting.variant), []).append(setting)
    found, without = [], []
    for engine, of_engine in by_engine.items():
        plans = [(setting, plan(setting, need, assumed)) for setting in of_engine]
        good = [(setting, made) for setting, made in plans if isinstance(made, Plan)]
        if good:
            setting, made = min(good, key=lambda one: (one[1].money, -one[1].quality, one[0].label))
            found.append(Choice(*engine, setting, made))
            continue
        reasons = [made for _, made in plans]
        why = TOO_LOW if TOO_LOW in reasons else reasons[0]
        qualities = (
            [setting.quality.at(need.images, setting.quality.fitted) for setting in of_engine] if why == TOO_LOW else []
        )
        without.append(
            Choice(*engine, None, None, why, max((one for one in qualities if one is not None), default=None))
        )
    return sorted(found, key=lambda choice: (choice.plan.money, choice.engine)) + without


def _provision(
    setting: Setting,
    called: Called,
    need: Need,
    assumed: Assumptions,
    rate_exponent: float | None,
    bytes_exponent: float | None,
    factor: float,
) -> tuple | str:
    """shards, copies, cores, memory, disk, money."""
    if setting.index_bytes.at(need.images, bytes_exponent) is None:
        return NOT_EXTRAPOLATED

    def sizes(shards: int) -> tuple[float, float]:
        stored = setting.index_bytes.at(need.images / shards, bytes_exponent)
        return stored, (setting.fixed_memory + setting.memory_per_byte * stored) * (1 + assumed.headroom)

    most = max(1, math.floor(need.images))
    shards = 1 + bisect.bisect_left(
        range(1, most + 1), True, key=lambda shards: sizes(shards)[1] <= assumed.memory_gb * GB
    )
    if shards > most:
        return TOO_LARGE
    images, (stored, memory) = need.images / shards, sizes(shards)
    rate = called.rate.at(images, rate_exponent)
    if rate is None:
        return NOT_EXTRAPOLATED
    cores = max(shards, _whole(need.qps * shards * called.threads / (rate * factor * assumed.utilisation)))
    copies = _whole(cores / (shards * assumed.cores))
    memory, disk = shards * copies * memory, shards * copies * stored
    money = (
        cores * assumed.core_hour * assumed.hours_per_month
        + memory / GB * assumed.memory_gb_month
        + disk / GB * assumed.disk_gb_month
    )  # fmt: skip
    return shards, copies, cores, memory, disk, money


def _whole(value: float) -> int:
    """Rounded up; a value that is whole but for rounding stays."""
    return math.ceil(value - ROUNDING)
