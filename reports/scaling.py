"""What 100 million and a billion images would take, on paper: `lexlip-bench scaling` writes docs/scaling.md from the records of the reference runs.

Everything beyond the largest gallery that was measured is arithmetic on the curves of `reports.cost`, and marked. A test holds the document to the records.
"""

import bisect
import math
from collections.abc import Callable
from pathlib import Path

from bench.store import cli
from models.files import atomic_file
from reports import cost
from reports.cost import GB, Assumptions, Choice, Need, Setting
from reports.pages.cost import curve, inputs_table, scenario_table, settings_of
from reports.pages.scale.growth import LEAST_SIZES, by_setting
from reports.records.bundle import PROFILE, open_records
from reports.records.evidence import Evidence, Reading
from reports.records.scale import Search, Sweep, sweeps
from reports.render.tables import Cell, Column, Table, integer, percent, significant, size

ROOT = Path(__file__).resolve().parent.parent
NEEDS = tuple(
    Need(images, 100, "single 1", 0.0, 0.005, name)
    for name, images in (("100 million images", 1e8), ("A billion images", 1e9))
)
"""What is asked: 100 queries per second, each alone, at most half a point of quality lost to exact search of the same model."""
PATIENCE = 0.1  # seconds that one core may take for a query before a gallery counts as too slow for it
DEPTH = 10  # results that every shard returns
RESULT_BYTES = 8 + 4  # an id and a score
SLOW = 0.01  # share of the queries of one shard that are called slow: those beyond its p99
MOST = 10**12  # images: a limit beyond is none
DAY = 24 * 3600

INTRODUCTION = """# Beyond one machine, on paper

Made by `lexlip-bench scaling` from the records in `results/reference/`; a test holds it to them. The largest gallery that was measured stands in
each heading. **Whatever lies beyond it is extrapolated, not measured**: a power law fitted over the largest sizes, as on the Cost page of the
report, with the prices and machines of `reports/cost.yaml`, which are assumptions. A straight line over three sizes says little a thousand times
beyond them: read the orders of magnitude.

How a collection outgrows one machine: it is cut into shards of equal size, each asked for every query, and their best {depth} are merged by score.
"""


def document(evidence: Evidence, assumed: Assumptions) -> str:
    """The whole Markdown document."""
    parts = [INTRODUCTION.format(depth=DEPTH)]
    for sweep in sweeps(evidence):
        if len(sweep.sizes) >= LEAST_SIZES and (settings := settings_of(sweep)):
            parts += [f"## {sweep.title}\n", *_of_sweep(sweep, settings, assumed), *_encoding(evidence, sweep)]
    if len(parts) == 1:
        parts.append(f"Not measured yet: no sweep over {LEAST_SIZES} sizes is among the records.\n")
    return "\n".join(parts)


def _of_sweep(sweep: Sweep, settings: list[Setting], assumed: Assumptions) -> list[str]:
    chosen = [(need, cost.choose(settings, need, assumed)) for need in NEEDS]
    tables = [scenario_table(sweep, need, choices, assumed, 0) for need, choices in chosen]
    tables += [network(sweep, need, choices) for need, choices in chosen]
    used = [choice.setting for _, choices in chosen for choice in choices if choice.plan]
    inputs = inputs_table(sweep, [setting for setting in settings if setting in used or not setting.grows_as])
    tables += [
        breaks(sweep, settings, assumed),
        builds(sweep),
        inputs.select("inputs", "What this is computed from", _SHOWN, inputs.notes[:2]),
    ]
    return [table.to_markdown() for table in tables if table.rows]


_SHOWN = (
    "engine",
    "kind",
    "quality",
    "quality exponent",
    "bytes",
    "bytes exponent",
    "fixed",
    "per_byte",
    "single 1",
    "single 1 exponent",
    "grows_as",
)


# --- what breaks first ------------------------------------------------------------------------------------------------------------


def breaks(sweep: Sweep, settings: list[Setting], assumed: Assumptions) -> Table:
    """The gallery at which one machine's memory is full, and one core too slow, for the setting of each engine whose growth was measured itself."""
    call, rows = sweep.call("single"), []
    for setting in settings:
        called = call and setting.calls.get(call.key)
        if setting.grows_as or not called or setting.index_bytes.fitted is None or called.rate.fitted is None:
            continue

        def held(images: float, setting: Setting = setting) -> float:
            stored = setting.index_bytes.at(images, setting.index_bytes.fitted)
            return (setting.fixed_memory + setting.memory_per_byte * stored) * (1 + assumed.headroom)

        limits = {
            "memory": first_beyond(lambda images: held(images) > assumed.memory_gb * GB),
            "time": first_beyond(lambda images, rate=called.rate: rate.at(images, rate.fitted) < 1 / PATIENCE),
        }
        reached = {what: images for what, images in limits.items() if images}
        cells = {"engine": Cell(setting.label), "kind": Cell(f"{setting.kind}, {setting.variant}")}
        for what, images in limits.items():
            cells[what] = Cell(float(images), points=setting.points) if images else Cell(f"over {integer(MOST)}")
        rows.append(cells | {"first": Cell(min(reached, key=reached.get) if reached else "neither")})
    columns = (
        Column("engine", "Engine and knobs"), Column("kind", "Kind"), Column("memory", f"memory of {significant(assumed.memory_gb)} GB full", _rough, "Images at which"),
        Column("time", f"a query takes {significant(1000 * PATIENCE)} ms of one core", _rough, "Images at which"), Column("first", "Breaks first"),
    )  # fmt: skip
    notes = (
        f"Beyond {integer(sweep.largest)} images extrapolated. Memory is with {percent(assumed.headroom)} % kept free.",
    )
    return Table("breaks", "What breaks first on one machine", columns, rows, notes)


def first_beyond(holds: Callable[[float], bool]) -> int | None:
    """The least number of images at which `holds`, which stays so from there on; None when that is beyond `MOST`."""
    return 1 + bisect.bisect_left(range(1, MOST), True, key=holds) if holds(MOST) else None


def _rough(images: float) -> str:
    """Two significant digits: what is extrapolated so far has no more."""
    return integer(round(images, 1 - math.floor(math.log10(images))))


# --- network, builds, encoding ----------------------------------------------------------------------------------------------------


def network(sweep: Sweep, need: Need, choices: list[Choice]) -> Table:
    """What moves between shards and the one that merges, and how often the slowest shard is a slow one."""
    rows = []
    for choice in choices:
        if choice.plan:
            shards = choice.plan.shards
            results = shards * DEPTH * RESULT_BYTES
            cells = {
                "engine": Cell(choice.setting.label), "kind": Cell(f"{choice.kind}, {choice.variant}"), "shards": Cell(shards),
                "results": Cell(results), "rate": Cell(results * need.qps), "slow": Cell(1 - (1 - SLOW) ** shards),
            }  # fmt: skip
            rows.append(cells)
    columns = (
        Column("engine", "Engine and knobs"), Column("kind", "Kind"), Column("shards", "Shards", integer), Column("results", "Results of a query, all shards", size),
        Column("rate", "Per second", size), Column("slow", "Queries that wait for a slow shard, %", percent),
    )  # fmt: skip
    notes = (
        f"Arithmetic: every shard returns {DEPTH} results of {RESULT_BYTES} bytes; a shard is slow for one query in {round(1 / SLOW)}, independently of the others, so that its p99 becomes the usual case as shards are added.",
    )
    return Table("network", f"Network, {need.name[0].lower()}{need.name[1:]}", columns, rows, notes)


def builds(sweep: Sweep) -> Table:
    """Wall time of building one index over all, on the machine that was measured."""
    sizes = {(found[-1].kind, found[-1].variant, found[-1].engine): found for found in by_setting(sweep)}
    rows = []
    for found in sizes.values():
        largest: Search = found[-1]
        if largest.images != sweep.largest or not largest.cell("build_seconds").value:
            continue
        grown = curve(largest, sizes, lambda search: search.cell("build_seconds").value)
        cells = {
            "engine": Cell(largest.label),
            "kind": Cell(f"{largest.kind}, {largest.variant}"),
            "measured": largest.cell("build_seconds"),
        }
        for need in NEEDS:
            cells[need.name] = (
                Cell(grown.at(need.images, grown.fitted) / 3600)
                if grown.fitted is not None
                else Cell(missing="too few sizes")
            )
        rows.append(cells)
    group = "extrapolated, hours"
    columns = [
        Column("engine", "Engine and knobs"),
        Column("kind", "Kind"),
        Column("measured", f"{integer(sweep.largest)} images, seconds", significant),
    ]
    columns += [Column(need.name, need.name, significant, group) for need in NEEDS]
    notes = ("Shards are built beside each other: on S machines divide by S.",)
    return Table("builds", "Building the index, on the machine that was measured", tuple(columns), rows, notes)


def _encoding(evidence: Evidence, sweep: Sweep) -> list[str]:
    rows = evidence.rows[
        (evidence.rows.task == "encoding")
        & (evidence.rows.metric == "encode_images_per_second")
        & evidence.rows.value.notna()
    ]
    rows = rows[
        (rows.machine_id == sweep.machine_id) & rows.variant.isin([search.variant for search in sweep.searches])
    ]
    said = []
    for variant, mine in rows.groupby("variant"):
        last = mine.sort_values(["images", "started"]).iloc[-1]
        days = ", ".join(
            f"{significant(need.images / last.value / DAY)} days for {need.name[0].lower()}{need.name[1:]}"
            for need in NEEDS
        )
        said.append(f"- {variant}: {integer(last.value)} images per second over {integer(last.images)} images: {days}.")
    head = "Encoding, rendering included, on the machine that was measured; machines share the work without talking to each other:\n"
    return [head, "\n".join(said) + "\n"] if said else []


def main(arguments) -> None:
    """`lexlip-bench scaling`"""
    text = document(Evidence(open_records(arguments.reference), Reading(profile=PROFILE)), cost.read(arguments.costs))
    with atomic_file(arguments.out) as partial:
        partial.write_text(text, encoding="utf-8")
    print(arguments.out)


def parser():
    flags = cli.parser(
        "What 100 million and a billion images would take, on paper, from the records of the reference runs."
    )
    flags.add_argument("--reference", type=Path, default=ROOT / "results" / "reference")
    flags.add_argument("--out", type=Path, default=ROOT / "docs" / "scaling.md")
    flags.add_argument("--costs", type=Path, default=None, help="prices and machines, as reports/cost.yaml")
    return flags
