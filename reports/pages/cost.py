"""What a search service would cost with each engine: stated scenarios as tables, and a calculator over the same curves."""

import dataclasses
import itertools
import math

from reports import cost
from reports.cost import Assumptions, Called, Choice, Curve, Need, Plan, Setting
from reports.findings.verdict import EQUAL_RATIO
from reports.pages import Section
from reports.pages.scale.growth import by_setting, fit
from reports.records.evidence import Evidence
from reports.records.scale import KINDS, Call, Search, Sweep, sweeps
from reports.render.tables import NOT_APPLICABLE, Cell, Column, Table, clean, integer, percent, significant, size, times

FITTED = 3  # of the largest sizes: smaller galleries spend their time on the call, and say little of larger ones
EXTRAPOLATED = "‡"
ON_GPU = "-gpu"  # how the names of engines end that need a GPU: their price is none of cores
SCRIPT = "cost.js"
MADE = ("quality", "cores", "machines", "shards", "memory", "disk")  # columns that come from a plan
# Name -> (label, step, least, most) of the fields of the form.
ASKED = {
    "images": ("Images", "any", 1, "1e15"), "qps": ("Queries per second", "any", 0, None), "least_quality": ("{quality} at least, %", "any", 0, 100),
    "most_lost": ("Lost to exact search of the same model at most, points", "any", 0, 100),
}  # fmt: skip
STATED = {
    "core_hour": ("A core for an hour", "any", 0, None), "memory_gb_month": ("A GB of memory for a month", "any", 0, None),
    "disk_gb_month": ("A GB of disk for a month", "any", 0, None), "hours_per_month": ("Hours a month", "any", 1, None),
    "cores": ("Cores of a machine", 1, 1, None), "memory_gb": ("Memory of a machine, GB", "any", 0.001, None),
    "utilisation": ("Share of a core's time that queries may take", "any", 0.001, 1), "headroom": ("Memory kept free, as a share", "any", 0, None),
}  # fmt: skip


def section(evidence: Evidence) -> Section | None:
    assumed = cost.read(evidence.reading.costs)
    found, tables, shown = [], [], []
    for sweep in sweeps(evidence):
        settings = settings_of(sweep)
        if not settings:
            continue
        scenarios = []
        for place, need in enumerate(assumed.scenarios, 1):
            choices = cost.choose(settings, need, assumed)
            table = scenario_table(sweep, need, choices, assumed, place)
            tables.append(table)
            scenarios.append(
                {
                    "name": need.name,
                    "asked": asked(sweep, need),
                    "table": table.name,
                    "said": said(choices, quality_of(sweep), assumed),
                }
            )
        inputs = inputs_table(sweep, settings)
        tables.append(inputs)
        found.append({"sweep": sweep, "scenarios": scenarios, "inputs": inputs.name, "quality": quality_of(sweep)})
        shown.append(_as_data(sweep, settings))
    if not found:
        return None
    tables.append(assumptions_table(assumed))
    first = (
        assumed.scenarios[0]
        if assumed.scenarios
        else Need(found[0]["sweep"].largest, 1.0, shown[0]["calls"][0]["key"], 0.0, 0.005)
    )
    values = dataclasses.asdict(first) | {name: getattr(assumed, name) for name in STATED}
    values |= {name: 100 * values[name] for name in ("least_quality", "most_lost")}
    block = {"sweeps": shown, "call": first.call, "assumed": {name: getattr(assumed, name) for name in STATED}}
    data = {"sweeps": found, "assumed": assumed, "asked": ASKED, "stated": STATED, "values": values, "block": block}
    return Section("cost", "Cost of a service", tables, data=data, scripts=(SCRIPT,))


# --- from records to settings -----------------------------------------------------------------------------------------------------


def settings_of(sweep: Sweep) -> list[Setting]:
    """Every way of searching the largest gallery whose quality, size, memory and rate were measured, with how it grows.

    Left out: engines on a GPU, and what found nothing.
    """
    sizes = {(found[-1].kind, found[-1].variant, found[-1].engine): found for found in by_setting(sweep)}
    whole = [search for search in sweep.at(sweep.largest) if _is_whole(search)]
    curves = {search: curve(search, sizes, lambda s: s.quality) for search in whole}
    best = {}
    for search in sorted(whole, key=lambda search: (search.exact, search.quality)):
        best[search.kind, search.variant] = curves[
            search
        ]  # the exact search of the highest quality; where none is exact, the highest
    found = []
    for search in whole:
        grows = _growth(search, sizes)
        fixed, per_byte = memory(search, grows)
        calls = {call.key: called(search, call, sizes) for call in search.calls if search.rate(call)}
        behind = (search, *(one for one in grows if one is not search))
        found.append(
            Setting(
                search.label, search.kind, search.variant, search.engine, curves[search], best[search.kind, search.variant],
                curve(search, sizes, lambda s: s.cell("index_bytes").value), fixed, per_byte, calls,
                "" if search in grows or len(grows) < 2 else grows[-1].label,
                tuple(dict.fromkeys(point for one in behind for point in one.cell("index_bytes").points)),
            )
        )  # fmt: skip
    return found


def curve(search: Search, sizes: dict[tuple, list[Search]], value) -> Curve:
    """A value of a search of the largest gallery, at the sizes that it or another setting of its engine was measured at.

    Of another setting the growth alone is taken: its values in proportion to what the two have at the largest size.
    """
    grows = [one for one in _growth(search, sizes) if (value(one) or 0) > 0]
    if not grows or grows[-1].images != search.images:
        return Curve((search.images,), (float(value(search)),))
    scale = value(search) / value(grows[-1])
    measured = [(one.images, float(value(one) * scale), ()) for one in grows]
    images, values = tuple(one[0] for one in measured), tuple(one[1] for one in measured)
    fitted = fit(measured[-FITTED:])
    if fitted is None:
        return Curve(images, values)
    slopes = [
        math.log(value / before) / math.log(images / fewer)
        for (fewer, before, _), (images, value, _) in itertools.pairwise(measured[-FITTED:])
    ]
    return Curve(images, values, fitted.exponent, min(slopes), max(slopes))


def called(search: Search, call: Call, sizes: dict[tuple, list[Search]]) -> Called:
    """How fast a search answers one call, with how far its rounds lie apart."""
    rate = search.rate(call)
    least, most = (search.timed(call, f"qps_{end}").value or rate for end in ("least", "most"))
    behind = [search, *(one for one in _growth(search, sizes) if one is not search)]
    points = tuple(dict.fromkeys(point for one in behind for point in one.timed(call).points))
    return Called(call.threads, curve(search, sizes, lambda s: s.rate(call)), least / rate, most / rate, points)


def memory(search: Search, grows: list[Search]) -> tuple[float, float]:
    """(bytes held beside the index, bytes of memory per byte of index): the growth between the two largest sizes, and never less than the index itself."""
    stored = [(one.cell("index_bytes").value, one.cell("resident_bytes").value) for one in grows]
    stored = [one for one in stored if None not in one][-2:]
    per_byte = 1.0
    if len(stored) == 2 and stored[1][0] > stored[0][0]:
        per_byte = max(1.0, (stored[1][1] - stored[0][1]) / (stored[1][0] - stored[0][0]))
    return max(0.0, search.cell("resident_bytes").value - per_byte * search.cell("index_bytes").value), per_byte


def quality_of(sweep: Sweep) -> str:
    return "R@1" if sweep.judged else "Engine recall@10"


def _growth(search: Search, sizes: dict[tuple, list[Search]]) -> list[Search]:
    """The searches, smallest gallery first, of the setting of its engine that was measured at most sizes; itself alone where there is none."""
    return sizes.get((search.kind, search.variant, search.engine)) or [search]


def _is_whole(search: Search) -> bool:
    measured = (search.quality, search.cell("index_bytes").value, search.cell("resident_bytes").value)
    return all(measured) and any(search.rate(call) for call in search.calls) and not search.engine.endswith(ON_GPU)


def _as_data(sweep: Sweep, settings: list[Setting]) -> dict:
    """What the script of the page reads; texts as a page may show them."""
    found = [dataclasses.asdict(setting) for setting in settings]
    for setting in found:
        setting |= {name: clean(setting[name]) for name in ("label", "kind", "variant", "engine", "grows_as")}
    calls = [{"key": call.key, "label": call.label} for call in sweep.calls(sweep.largest)]
    return {"title": clean(sweep.title), "largest": sweep.largest, "calls": calls, "settings": found}


# --- tables -----------------------------------------------------------------------------------------------------------------------


def asked(sweep: Sweep, need: Need) -> str:
    """A scenario in words."""
    call = next((call.label for call in sweep.calls() if call.key == need.call), need.call)
    least = f", {quality_of(sweep)} at least {percent(need.least_quality)} %" if need.least_quality else ""
    lost = f", at most {100 * need.most_lost:g} points of {quality_of(sweep)} lost to exact search of the same model"
    return f"{integer(need.images)} images, {significant(need.qps)} queries per second, {call}{least}{lost}"


def said(choices: list[Choice], quality: str, assumed: Assumptions) -> list[str]:
    """The cheapest of each paradigm, cheapest first, in sentences."""
    cheapest = [next((one for one in choices if one.plan and one.kind == kind), None) for kind in KINDS]
    found = sorted(filter(None, cheapest), key=lambda one: one.plan.money)
    sentences = [
        f"Cheapest {one.kind} search: {one.setting.label}, {significant(one.plan.money)} {assumed.currency} a month"
        f"{_range(one.plan)}, {quality} {percent(one.plan.quality)} %."
        for one in found
    ]
    if len(found) == 2:
        less, more = found
        if less.plan.high >= more.plan.low:
            sentences.append("The two ranges overlap: neither can be called cheaper.")
        elif more.plan.money > (1 + EQUAL_RATIO) * less.plan.money:
            sentences.append(f"The {more.kind} search costs {times(more.plan.money / less.plan.money)} as much.")
        else:
            sentences.append("The two cost about the same.")
    sentences += [f"No {kind} search is good enough." for kind, one in zip(KINDS, cheapest, strict=True) if one is None]
    return sentences


def _range(plan: Plan) -> str:
    """ " (low to high)", or "" where these read the same."""
    low, high = significant(plan.low), significant(plan.high)
    return "" if low == high else f" ({low} to {high})"


def scenario_table(sweep: Sweep, need: Need, choices: list[Choice], assumed: Assumptions, place: int) -> Table:
    rows = []
    for choice in choices:
        cells = {
            "engine": Cell(choice.setting.label if choice.setting else choice.engine),
            "kind": Cell(f"{choice.kind}, {choice.variant}"),
        }
        if not choice.plan:
            known = "" if choice.best is None else f": at most {percent(choice.best)} %"
            rows.append(
                cells | {key: Cell(NOT_APPLICABLE) for key in MADE} | {"money": Cell(missing=f"{choice.why}{known}")}
            )
            continue
        made, mark = choice.plan, EXTRAPOLATED if choice.plan.extrapolated else ""
        points = choice.setting.points + choice.setting.calls[need.call].points
        cut = f"{made.shards} shards, {made.copies} copies" if made.shards > 1 else f"{made.copies} copies"
        for key in MADE:
            cells[key] = Cell(getattr(made, key), mark=mark, n=cut if key == "machines" else "", points=points)
        bounds = (made.low, made.high) if _range(made) else (None, None)
        cells["money"] = Cell(made.money, *bounds, mark=mark, points=points)
        rows.append(cells)
    columns = (
        Column("engine", "Engine and knobs"), Column("kind", "Kind"), Column("quality", f"{quality_of(sweep)}, %", percent),
        Column("money", "Price a month", significant), Column("cores", "Cores", integer), Column("machines", "Machines", integer),
        Column("shards", "Shards", integer), Column("memory", "Memory", size), Column("disk", "Disk", size),
    )  # fmt: skip
    notes = [
        f"Prices in {assumed.currency}. The cheapest setting of each engine that is good enough. In brackets: the range over the timed rounds and, where extrapolated, over the slopes seen between the fitted sizes; none where it is lost in rounding up to whole cores, or one round was timed.",
    ]
    if need.images > sweep.largest:
        notes.append(
            f"{EXTRAPOLATED} Extrapolated: {integer(sweep.largest)} images were measured at most; beyond, each value follows the power law fitted over the {FITTED} largest sizes."
        )
    return Table(sweep.named(f"cost_{place}"), f"{need.name}: {asked(sweep, need)}", columns, rows, tuple(notes))


def inputs_table(sweep: Sweep, settings: list[Setting]) -> Table:
    """What the arithmetic starts from: each setting at the largest gallery, and the exponents it grows with."""
    calls = sweep.calls(sweep.largest)
    rows = []
    for setting in settings:
        cells = {
            "engine": Cell(setting.label),
            "kind": Cell(f"{setting.kind}, {setting.variant}"),
            "grows_as": Cell(setting.grows_as or "itself"),
        }
        behind = setting.points
        for key, one in (("quality", setting.quality), ("bytes", setting.index_bytes)):
            cells |= _curve_cells(key, one, setting.points)
        cells["fixed"] = Cell(setting.fixed_memory, points=setting.points)
        cells["per_byte"] = Cell(setting.memory_per_byte, points=setting.points)
        for call in calls:
            if call.key in setting.calls:
                timed = setting.calls[call.key]
                behind += timed.points
                cells |= _curve_cells(call.key, timed.rate, timed.points)
        rows.append(cells | {"records": Cell(" ".join(behind), points=behind)})
    quality, stored, held = quality_of(sweep), "Index", "Memory"
    columns = [
        Column("engine", "Engine and knobs"), Column("kind", "Kind"), Column("quality", "%", percent, quality), Column("quality exponent", "exponent", _exponent, quality),
        Column("bytes", "bytes", size, stored), Column("bytes exponent", "exponent", _exponent, stored), Column("fixed", "beside the index", size, held),
        Column("per_byte", "per byte of index", significant, held),
    ]  # fmt: skip
    for call in calls:
        group = f"QPS ({call.short})"
        columns += [
            Column(call.key, "measured", integer, group),
            Column(f"{call.key} exponent", "exponent", _exponent, group),
        ]
    columns += [Column("grows_as", "Grows as"), Column("records", "Records")]
    notes = (
        f"Exponents of value ~ images^a, fitted over the {FITTED} largest sizes; in brackets the least and the greatest between two of them. Between measured sizes no exponent is used, but the two neighbours.",
        "A setting that was measured over the largest gallery alone grows as the setting of its engine that was measured at most sizes, which is an assumption: with knobs unchanged, an approximate engine may lose more.",
        *left_out(sweep, settings),
    )
    return Table(
        sweep.named("cost_inputs"),
        f"What the costs are computed from: {integer(sweep.largest)} images, {sweep.title}",
        tuple(columns),
        rows,
        notes,
    )


def left_out(sweep: Sweep, settings: list[Setting]) -> list[str]:
    """Which engines have no price, and why."""
    priced, found = {(one.kind, one.variant, one.engine) for one in settings}, {}
    for search in sweep.at(sweep.largest):
        if (search.kind, search.variant, search.engine) not in priced:
            on_gpu = "needs a GPU, which cores do not price" if search.engine.endswith(ON_GPU) else ""
            found.setdefault(
                search.engine, search.problem or on_gpu or "not measured in full, or nothing was found with it"
            )
    return [f"Without {engine}: {why}." for engine, why in found.items()]


def assumptions_table(assumed: Assumptions) -> Table:
    rows = [
        {"what": Cell(label), "value": Cell(float(getattr(assumed, name))), "source": Cell("assumed, without a source")}
        for name, (label, *_) in STATED.items()
    ]
    columns = (Column("what", "What"), Column("value", "Value", lambda value: f"{value:,g}"), Column("source", "From"))
    notes = (
        f"Prices are in {assumed.currency}. None of this was measured: put your own in the form, or in a file (--costs).",
    )
    return Table("cost_assumptions", "What the costs assume", columns, rows, notes)


def _curve_cells(key: str, one: Curve, points: tuple[str, ...]) -> dict[str, Cell]:
    exponent = (
        Cell(missing="too few sizes")
        if one.fitted is None
        else Cell(one.fitted, one.least, one.greatest, points=points)
    )
    return {key: Cell(one.values[-1], points=points), f"{key} exponent": exponent}


def _exponent(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")
