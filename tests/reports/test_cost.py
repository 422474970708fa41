"""The Cost page: its arithmetic by hand, from made-up sweeps to tables, and the script in a browser against Python."""

import dataclasses
import json
import math
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.store.records import Point, RecordStore
from models.errors import InputError
from reports import cost
from reports.cost import (
    NOT_EXTRAPOLATED,
    NOT_TIMED,
    TOO_LARGE,
    TOO_LOW,
    Assumptions,
    Called,
    Curve,
    Need,
    Plan,
    Setting,
)
from reports.pages import cost as page
from reports.pages.site import PAGES, render
from reports.records.evidence import Evidence, Reading
from reports.records.scale import sweeps

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
STARTED = "2026-01-02T03:04:05+00:00"
ONE, MANY = "single 1", "batched 2"
FREE = Assumptions("crowns", 1.0, 10.0, 100.0, 100.0, cores=4, memory_gb=1.0, utilisation=0.5, headroom=0.25)
NEED = Need(1000, 10.0, ONE, 0.0, 1.0)


def setting(name="engine", **fields) -> Setting:
    """Over 100 and 1,000 images: 400 and 40 queries a second, 1 and 10 MB, R@1 80 and 40 %."""
    flat = lambda *values: Curve((100, 1000), values, math.log10(values[1] / values[0]), -2.0, 2.0)  # noqa: E731
    common = {
        "label": name, "kind": "dense", "variant": "clip", "engine": name, "quality": flat(0.8, 0.4), "best": flat(0.8, 0.4),
        "index_bytes": flat(1e6, 1e7), "fixed_memory": 30e6, "memory_per_byte": 2.0, "calls": {ONE: Called(1, flat(400.0, 40.0))},
    }  # fmt: skip
    return Setting(**common | fields)


# --- the arithmetic


@pytest.mark.parametrize(
    ("images", "value"),
    [
        (100, 400),
        (1000, 40),
        (100 * 10**0.5, 400 / 10**0.5),
        (50, 400),
        (1, 400),
        (10_000, 40 / 10),
        (1001, 40 * (1001 / 1000) ** -1),
    ],
)
def test_a_curve(images, value):
    assert Curve((100, 1000), (400.0, 40.0), -1.0, -1.0, -1.0).at(images, -1.0) == pytest.approx(value)


def test_a_curve_without_an_exponent_ends_where_it_was_measured():
    assert Curve((100, 1000), (400.0, 40.0)).at(1000, None) == pytest.approx(40)
    assert Curve((100, 1000), (400.0, 40.0)).at(1001, None) is None


@given(st.lists(st.floats(0.01, 1e6), min_size=2, max_size=5), st.floats(0, 1))
def test_a_curve_lies_between_its_neighbours(values, share):
    sizes = tuple(10 ** (n + 1) for n in range(len(values)))
    images = min(sizes[0] * (sizes[-1] / sizes[0]) ** share, sizes[-1])
    after = next(i for i, size in enumerate(sizes) if size >= images)
    pair = values[max(0, after - 1) : after + 1]
    found = Curve(sizes, tuple(values)).at(images, None)
    assert min(pair) * (1 - 1e-9) <= found <= max(pair) * (1 + 1e-9)


def test_a_service_by_hand():
    """10 queries/s at 40 a core and half of its time: half a core, so 1. Memory 1.25 x (30 MB + 2 x 10 MB), disk 10 MB."""
    made = cost.plan(setting(), NEED, FREE)
    assert (made.shards, made.copies, made.machines, made.cores) == (1, 1, 1, 1)
    assert (made.quality, made.memory, made.disk) == (pytest.approx(0.4), pytest.approx(62.5e6), pytest.approx(10e6))
    assert made.money == pytest.approx(1 * 1.0 * 100 + 0.0625 * 10 + 0.01 * 100)
    assert (made.low, made.high, made.extrapolated) == (made.money, made.money, False)


def test_more_queries_take_copies():
    """201 queries/s take 10.05 cores, so 11, on three machines of 4: each holds the index."""
    made = cost.plan(setting(), dataclasses.replace(NEED, qps=201), FREE)
    assert (made.cores, made.copies, made.machines) == (11, 3, 3)
    assert (made.memory, made.disk) == (pytest.approx(3 * 62.5e6), pytest.approx(30e6))
    whole = cost.plan(setting(), dataclasses.replace(NEED, qps=200), FREE)
    assert whole.cores == 10  # exactly, and not 11 for a rounding


def test_an_index_without_room_is_cut_and_every_shard_is_asked():
    """1,000,000 images: 10 GB, so 25.0375 GB of memory in machines of 1 GB. In S shards each takes 1.25 x (0.03 + 20 / S) GB: at least 26."""
    made = cost.plan(setting(), dataclasses.replace(NEED, images=1_000_000, most_lost=1.0), FREE)
    assert made.shards == 26
    rate = 40 * 1000 / (1_000_000 / 26)  # of a shard, extrapolated in proportion
    assert made.cores == math.ceil(10 * 26 / (rate * 0.5))
    assert made.copies == math.ceil(made.cores / (26 * 4))
    assert made.machines == 26 * made.copies
    assert made.memory == pytest.approx(made.machines * 1.25 * (30e6 + 2 * 10e9 / 26))
    assert made.extrapolated
    assert made.low < made.money < made.high


@given(st.floats(1e6, 1e30), st.floats(0.1, 3.0))
def test_no_fewer_shards_fit(stored, exponent):
    """Whatever the growth: one shard less would not fit into the memory of a machine."""
    curve = Curve((100, 1000), (stored / 10**exponent, stored), exponent, exponent, exponent)
    made = cost.plan(setting(index_bytes=curve), NEED, FREE)
    if isinstance(made, str):
        assert made == TOO_LARGE
        return
    needed = lambda shards: 1.25 * (30e6 + 2 * curve.at(1000 / shards, None))  # noqa: E731
    assert needed(made.shards) <= 1e9
    assert made.shards == 1 or needed(made.shards - 1) > 1e9


def test_the_range_is_that_of_the_slopes_and_the_rounds():
    """Ten times the measured size, 10 queries/s: rates 4 (fitted), 40 x 10^-0.5 x 1.1 (best) and 40 x 10^-1.5 x 0.8 (worst)."""
    rate = Curve((100, 1000), (400.0, 40.0), -1.0, -1.5, -0.5)
    stored = Curve((100, 1000), (1e6, 1e7), 1.0, 1.0, 1.0)
    one = setting(calls={ONE: Called(1, rate, 0.8, 1.1)}, index_bytes=stored)
    made = cost.plan(one, dataclasses.replace(NEED, images=10_000), FREE)
    money = [
        math.ceil(20 / (40 * 10**slope * factor)) * 100 + copies * (0.2875 * 10 + 0.1 * 100)
        for slope, factor, copies in ((-1.0, 1.0, 2), (-0.5, 1.1, 1), (-1.5, 0.8, 5))
    ]
    assert (made.money, made.low, made.high) == pytest.approx(tuple(money))


def test_threads_share_a_rate():
    two = setting(calls={MANY: Called(2, Curve((100, 1000), (800.0, 80.0)))})
    need = dataclasses.replace(NEED, call=MANY, qps=200)
    assert cost.plan(two, need, FREE).cores == 10


@pytest.mark.parametrize(
    ("changed", "asked", "why"),
    [
        ({}, {"call": MANY}, NOT_TIMED),
        ({}, {"least_quality": 0.41}, TOO_LOW),
        ({"best": Curve((100, 1000), (0.9, 0.5))}, {"most_lost": 0.09}, TOO_LOW),
        ({"quality": Curve((100, 1000), (0.8, 0.4))}, {"images": 2000}, NOT_EXTRAPOLATED),
        ({"index_bytes": Curve((100, 1000), (1e6, 1e7))}, {"images": 2000}, NOT_EXTRAPOLATED),
        ({"calls": {ONE: Called(1, Curve((100, 1000), (400.0, 40.0)))}}, {"images": 2000}, NOT_EXTRAPOLATED),
        ({"fixed_memory": 1e9}, {}, TOO_LARGE),
    ],
)
def test_why_there_is_no_plan(changed, asked, why):
    assert cost.plan(setting(**changed), dataclasses.replace(NEED, **asked), FREE) == why


def test_good_enough_to_the_last_digit():
    at_limit = setting(best=Curve((100, 1000), (0.9, 0.5)))
    assert isinstance(cost.plan(at_limit, dataclasses.replace(NEED, most_lost=0.1, least_quality=0.4), FREE), Plan)
    beyond = dataclasses.replace(NEED, images=10_000, most_lost=0.1)
    assert isinstance(cost.plan(at_limit, beyond, FREE), Plan), "the loss is judged at the largest measured size"
    assert cost.plan(at_limit, dataclasses.replace(beyond, most_lost=0.09), FREE) == TOO_LOW


def test_the_cheapest_setting_of_each_engine_then_those_without():
    dear = setting("a", memory_per_byte=50.0)
    cheap = dataclasses.replace(dear, label="a, cheap", memory_per_byte=3.0)
    poor = setting("poor", quality=Curve((100, 1000), (0.2, 0.1)))
    poorer = dataclasses.replace(poor, label="poorer", quality=Curve((100, 1000), (0.2, 0.05)))
    found = cost.choose([poor, poorer, dear, cheap, setting("b")], dataclasses.replace(NEED, least_quality=0.3), FREE)
    assert [(one.engine, one.setting and one.setting.label, one.why) for one in found] == [
        ("b", "b", ""), ("a", "a, cheap", ""), ("poor", None, TOO_LOW),
    ]  # fmt: skip
    assert found[2].best == pytest.approx(0.1)


# --- what is assumed


def test_the_stated_assumptions_are_marked_as_such():
    assumed = cost.read()
    assert len(assumed.scenarios) >= 3
    table = page.assumptions_table(assumed)
    assert {row["source"].value for row in table.rows} == {"assumed, without a source"}
    assert "none of it has a source" in cost.DEFAULTS.read_text()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("core_hour: -1", "core_hour: Input should be greater than or equal to 0"),
        ("cores: 0", "cores: Input should be greater than or equal to 1"),
        ("utilisation: 1.5", "utilisation: Input should be less than or equal to 1"),
        ("memory_gb: .inf", "memory_gb: Input should be a finite number"),
        ("core_our: 1", "core_our: Unexpected keyword argument"),
        ("scenarios: [{name: x, images: 0, qps: 1, call: single 1, least_quality: 0, most_lost: 0}]", "scenarios.0.images: Input should be greater than 0"),
        ("scenarios: 3", "scenarios: Input should be a valid tuple"),
    ],
)  # fmt: skip
def test_assumptions_that_cannot_be(tmp_path, line, message):
    file = tmp_path / "mine.yaml"
    file.write_text(f"extends: ['{cost.DEFAULTS}']\n{line}\n")
    with pytest.raises(InputError, match=r"mine\.yaml") as raised:
        cost.read(file)
    assert message in str(raised.value)


def test_assumptions_that_lack_a_key(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("currency: crowns\n")
    with pytest.raises(InputError, match="core_hour: Field required"):
        cost.read(file)


# --- from records


class Made:
    """Records of a sweep over 1k, 10k and 100k images: `impact` swept over lexicons kept at the largest, and two dense engines."""

    SIZES = (1_000, 10_000, 100_000)

    def __init__(self, home):
        self.store = RecordStore(home)
        for place, images in enumerate(self.SIZES):
            self.search(
                "lexicon", "impact", images, 0.6 / 2**place, 9000 / 10**place, 64.0, top_k=32, bits=8, exact=True
            )
            self.search("dense", "faiss-flat", images, 0.8 / 2**place, 1000 / 10**place, 2048.0, exact=True)
            self.search("dense", "faiss-hnsw", images, 0.78 / 2**place, 5000 / 2**place, 2304.0, knobs={"ef": 16})
        self.search("lexicon", "impact", 100_000, 0.21, 45.0, 128.0, top_k=128, bits=8, exact=True)
        self.search("dense", "faiss-hnsw", 100_000, 0.2, 500.0, 2304.0, knobs={"ef": 64})
        self.search("dense", "faiss-flat-gpu", 100_000, 0.2, 90_000.0, 2048.0, exact=True)
        self.search("lexicon", "dummy", 100_000, 0.001, 90_000.0, 0.1)
        self.search("lexicon", "seismic", 100_000, 0.0, 900.0, 100.0, top_k=32, bits=8)

    def search(self, kind, engine, images, recall, rate, stored, **fields):
        point = Point(
            "scale", "scenes", "test", images, 5000, "text_to_image", "quick", "clip" if kind == "dense" else "lexlip", kind=kind, engine=engine,
            index_id="index", data_id="data", machine_id="one", command="python -m bench.scale --corpus 100k", **{"knobs": {}} | fields,
        )  # fmt: skip
        values = {
            "recall@1": recall,
            "engine_recall@10": 1.0,
            "index_bytes": stored * images,
            "bytes_per_image": stored,
            "resident_bytes": 5e7 + 1.5 * stored * images,
        }
        self.store.write(point, values, started=STARTED)
        for mode, threads, factor in (("single", 1, 1.0), ("batched", 2, 3.0)):
            timed = dataclasses.replace(point, batch_mode=mode, threads=threads)
            rates = {"qps": factor * rate, "qps_min": 0.9 * factor * rate, "qps_max": 1.05 * factor * rate}
            self.store.write(timed, rates, started=STARTED)


@pytest.fixture(scope="module")
def evidence(tmp_path_factory):
    return Evidence(Made(tmp_path_factory.mktemp("sweep") / "home").store)


@pytest.fixture(scope="module")
def settings(evidence):
    return {one.label: one for one in page.settings_of(sweeps(evidence)[0])}


def test_settings_of_the_largest_gallery(settings):
    assert set(settings) == {
        "impact, 32 kept, 8 bits",
        "impact, 128 kept, 8 bits",
        "faiss-flat",
        "faiss-hnsw ef=16",
        "faiss-hnsw ef=64",
    }


def test_a_setting_grows_as_it_was_measured(settings):
    flat = settings["faiss-flat"]
    assert flat.index_bytes.images == Made.SIZES
    assert flat.index_bytes.values == pytest.approx((2048e3, 2048e4, 2048e5))
    assert (flat.index_bytes.fitted, flat.calls[ONE].rate.fitted) == pytest.approx((1.0, -1.0))
    assert (flat.calls[MANY].threads, flat.calls[MANY].rate.values[-1]) == (2, pytest.approx(30.0))
    assert (flat.calls[ONE].slowest, flat.calls[ONE].fastest) == pytest.approx((0.9, 1.05))
    assert (flat.fixed_memory, flat.memory_per_byte) == pytest.approx((5e7, 1.5))
    assert flat.grows_as == ""


def test_a_setting_of_one_size_grows_as_its_engine(settings):
    one = settings["impact, 128 kept, 8 bits"]
    assert one.grows_as == "impact, 32 kept, 8 bits"
    assert one.index_bytes.values == pytest.approx((128e3, 128e4, 128e5))
    assert one.calls[ONE].rate.values == pytest.approx((4500.0, 450.0, 45.0))
    assert one.quality.values == pytest.approx((0.84, 0.42, 0.21))


def test_quality_is_held_against_exact_search_of_the_same_model(settings):
    assert {label: one.best.values[-1] for label, one in settings.items()} == pytest.approx(
        {
            "impact, 32 kept, 8 bits": 0.21,
            "impact, 128 kept, 8 bits": 0.21,
            "faiss-flat": 0.2,
            "faiss-hnsw ef=16": 0.2,
            "faiss-hnsw ef=64": 0.2,
        }
    )


def test_figures_are_traced_to_their_points(evidence, settings):
    rows = evidence.all
    section = page.section(evidence)
    table = section.tables[0]
    for row in table.rows:
        if not row["money"].missing:
            behind = rows[rows.point_id.isin(row["money"].points)]
            label = row["engine"].value
            assert set(behind.engine) == {settings[label].engine}
            assert set(behind.metric) >= {"index_bytes", "resident_bytes", "recall@1", "qps"}
            assert set(behind.images) == set(map(float, Made.SIZES))


def test_a_changed_record_changes_the_price(evidence, tmp_path):
    before = page.section(evidence).tables
    made = Made(tmp_path / "home")
    made.search("dense", "faiss-flat", 100_000, 0.2, 1.0, 2048.0, exact=True)  # ten times slower
    after = page.section(Evidence(made.store)).tables
    price = lambda tables: next(row["money"].value for row in tables[2].rows if row["engine"].value == "faiss-flat")  # noqa: E731
    assert price(after) > 5 * price(before)


def test_extrapolation_is_marked(evidence):
    section = page.section(evidence)
    for need, table in zip(cost.read().scenarios, section.tables, strict=False):
        beyond = need.images > 100_000
        marks = {row["money"].mark for row in table.rows if not row["money"].missing}
        assert marks == ({page.EXTRAPOLATED} if beyond else {""})
        assert any("Extrapolated: 100,000 images" in note for note in table.notes) == beyond


def test_sentences(settings):
    two = list(settings.values())
    apart = [cost.Choice(one.engine, one.kind, one.variant, one, Plan(0.5, 1, 1, 1, 1, 1.0, 1.0, money, low, high, False))
             for one, (money, low, high) in zip((two[0], settings["faiss-flat"]), ((10.0, 9.0, 11.0), (30.0, 29.0, 31.0)), strict=True)]  # fmt: skip
    said = page.said(apart, "R@1", FREE)
    assert said[0] == f"Cheapest lexicon search: {two[0].label}, 10.0 crowns a month (9.00 to 11.0), R@1 50.0 %."
    assert said[2] == "The dense search costs 3.00× as much."
    overlapping = [apart[0], dataclasses.replace(apart[1], plan=dataclasses.replace(apart[1].plan, low=10.5))]
    assert page.said(overlapping, "R@1", FREE)[2] == "The two ranges overlap: neither can be called cheaper."
    near = [
        apart[0],
        dataclasses.replace(apart[1], plan=dataclasses.replace(apart[1].plan, money=10.4, low=11.2, high=11.2)),
    ]
    assert page.said(near, "R@1", FREE)[2] == "The two cost about the same."
    assert page.said(apart[:1], "R@1", FREE)[1] == "No dense search is good enough."


def test_what_has_no_price_is_said(evidence, settings):
    inputs = next(table for table in page.section(evidence).tables if table.name == "cost_inputs")
    assert "Without faiss-flat-gpu: needs a GPU, which cores do not price." in inputs.notes
    assert "Without seismic: not measured in full, or nothing was found with it." in inputs.notes
    ids = set(evidence.all.point_id)
    assert all(set(row["records"].value.split()) <= ids for row in inputs.rows)


def test_no_sweep_no_page(tmp_path):
    assert page.section(Evidence(RecordStore(tmp_path))) is None


# --- the script


@pytest.fixture(scope="module")
def browsed(evidence, settings, tmp_path_factory):
    """The page as it is built, opened in a browser, and what its console said."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM:
        pytest.skip("no chromium on the path: the calculator was not run")
    out = write_page(evidence, tmp_path_factory.mktemp("cost"))
    said = []
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        opened = browser.new_page()
        opened.on("console", lambda message: said.append(message.text))
        opened.on("pageerror", lambda error: said.append(str(error)))
        opened.goto(out.as_uri())
        yield opened, said
        browser.close()


def write_page(evidence, folder):
    one = next(one for one in PAGES if one.name == "cost")
    section = page.section(evidence)
    html = render(evidence, one, [section], files=[], all_tables=section.tables, places={"downloads": "method.html"})
    (folder / "static").mkdir()
    shutil.copyfile(cost.DEFAULTS.with_name("static") / page.SCRIPT, folder / "static" / page.SCRIPT)
    (folder / "cost.html").write_text(html, encoding="utf-8")
    return folder / "cost.html"


def absent() -> list[Need]:
    """Within, at the edge of and beyond what was measured, both calls, good enough and not."""
    sizes = (500, 1_000, 54_321, 100_000, 3_000_000, 2_000_000_000)
    return [
        Need(images, qps, call, least, lost)
        for images in sizes
        for qps in (0.0, 7.5, 123_456.0)
        for call in (ONE, MANY, "single 8")
        for least, lost in ((0.0, 1.0), (0.1, 0.005))
    ]


def test_the_script_gives_what_python_gives(browsed, settings):
    """On the same inputs: the real curves, some with too few sizes, and prices of which some are nothing."""
    opened, said = browsed
    given = [*settings.values(), setting("alone", quality=Curve((1000,), (0.4,))), setting("heavy", fixed_memory=9e12)]
    as_json = json.loads(json.dumps([dataclasses.asdict(one) for one in given]))
    for assumed in (cost.read(), FREE, dataclasses.replace(FREE, core_hour=0.0, headroom=0.0, cores=1)):
        plain = {name: getattr(assumed, name) for name in page.STATED}
        asked = [dataclasses.asdict(need) for need in absent()]
        theirs = opened.evaluate(
            "([settings, needs, assumed]) => needs.map((need) => searchCost.choose(settings, need, assumed))",
            [as_json, asked, plain],
        )
        plans = 0
        for need, found in zip(absent(), theirs, strict=True):
            ours = cost.choose(given, need, assumed)
            assert [(one.engine, one.setting.label if one.setting else None, one.why) for one in ours] == [
                (one["engine"], one["setting"]["label"] if one["setting"] else None, one["why"]) for one in found
            ]
            for mine, other in zip(ours, found, strict=True):
                assert mine.best == (None if other["best"] is None else pytest.approx(other["best"], rel=1e-12))
                if mine.plan:
                    assert dataclasses.asdict(mine.plan) == pytest.approx(other["plan"], rel=1e-12)
                    plans += 1
        assert plans > 100
    assert said == []


def test_the_form_shows_the_first_scenario_and_follows_changes(browsed, evidence, settings):
    opened, said = browsed
    assumed = cost.read()
    shown = "[...document.querySelectorAll('#cost-rows [data-money]')].map((cell) => Number(cell.dataset.money))"

    def expected(need, assumed):
        return [one.plan.money for one in cost.choose(list(settings.values()), need, assumed) if one.plan]

    need = assumed.scenarios[0]
    assert opened.evaluate(shown) == pytest.approx(expected(need, assumed))
    opened.fill("[name=images]", "25000000")
    opened.fill("[name=core_hour]", "1.25")
    opened.select_option("[name=call]", MANY)
    need, assumed = dataclasses.replace(need, images=25e6, call=MANY), dataclasses.replace(assumed, core_hour=1.25)
    assert opened.evaluate(shown) == pytest.approx(expected(need, assumed))
    assert "Extrapolated: 100,000 images were measured at most" in opened.inner_text("#cost-said")
    opened.fill("[name=qps]", "")
    assert opened.inner_text("#cost-said") == "One of the numbers is missing or out of its range."
    assert opened.evaluate(shown) == []
    opened.fill("[name=qps]", "3")
    opened.press("[name=qps]", "Enter")
    assert len(opened.evaluate(shown)) > 0
    assert said == []


def test_hostile_names_stay_text(browsed, tmp_path):
    """A record's text is never markup: not in the tables, not in the block that the script reads, not in what it writes."""
    opened, said = browsed
    made = Made(tmp_path / "home")
    hostile = "</script><img src=x onerror=alert(1)>\u202e"
    for images in Made.SIZES:
        made.search("dense", hostile, images, 0.9, 100.0, 10.0, exact=True)
    opened.goto(write_page(Evidence(made.store), tmp_path).as_uri())
    first = opened.inner_text("#cost-rows tr:first-child th")
    assert first.startswith("</script><img src=x onerror=alert(1)>")
    assert "\u202e" not in opened.content()
    assert opened.evaluate("document.images.length") == 0
    assert said == []


def test_reading_other_assumptions(evidence, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(f"extends: ['{cost.DEFAULTS}']\ncurrency: crowns\ncore_hour: 2.0\n")
    section = page.section(Evidence(evidence.store, Reading(costs=file)))
    assert "crowns" in section.tables[0].to_markdown()
    assert section.data["values"]["core_hour"] == 2.0
