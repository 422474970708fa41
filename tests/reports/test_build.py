"""The page from made-up records: every number comes from one, nothing hostile runs, nothing missing stops it."""

import dataclasses
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from bench.store.records import RecordStore
from models.errors import InputError
from reports import build as command
from reports.build import build
from reports.pages.site import PAGES, STATIC
from reports.pages.site import write as write_site
from reports.records.bundle import Bundle, Compact, write
from reports.records.evidence import Evidence, Reading


class Page(HTMLParser):
    """Text of a page, its tags, and its tables as lists of rows."""

    def __init__(self, html):
        super().__init__()
        self.words, self.tags, self.tables, self.hidden = [], [], {}, 0
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.hidden += tag in ("style", "script")
        if tag == "table":
            self.rows = []
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag == "caption":
            self.words.append("\ncaption: ")

    def handle_endtag(self, tag):
        self.hidden -= tag in ("style", "script")
        if tag == "caption":
            self.tables["".join(self.words).rpartition("caption: ")[2].strip()] = self.rows

    def handle_data(self, data):
        if self.hidden:
            return
        self.words.append(data)
        if getattr(self, "rows", None) and self.rows[-1]:
            self.rows[-1][-1] += data

    @property
    def text(self):
        return " ".join("".join(self.words).split())

    def row(self, table, name):
        rows = next(rows for caption, rows in self.tables.items() if caption.startswith(table))
        return [" ".join(cell.split()) for cell in next(row for row in rows if row and row[0].strip() == name)]


@pytest.fixture
def page_of(whole, undrawn):
    """Builds a site and reads all of its pages as one."""
    return lambda home, out: Page(whole(build(home, out)))


@pytest.fixture(scope="module")
def page(site, whole):
    return Page(whole(site / "index.html"))


@pytest.fixture(scope="module")
def first(site):
    """The first page."""
    return Page((site / "index.html").read_text(encoding="utf-8"))


@pytest.fixture(params=[page.name for page in PAGES])
def each(site, request):
    """Every page by itself."""
    return Page((site / f"{request.param}.html").read_text(encoding="utf-8"))


def row_of(home, metric, **wanted):
    """The one row of a metric among the records, as a namedtuple."""
    rows = RecordStore(home).read()
    rows = rows[rows.metric == metric]
    for name, value in wanted.items():
        rows = rows[rows[name].isna() if value is None else (rows[name] == value).fillna(False)]
    assert len(rows) == 1
    return next(rows.itertuples())


MAIN = {
    "task": "retrieval",
    "split": "test",
    "direction": "text_to_image",
    "top_k": 32,
    "engine": "impact",
    "batch_mode": "",
}


def change(home, row, value) -> None:
    """Writes another value into one record."""
    path = home / "results" / f"{row.point_id}.parquet"
    rows = pd.read_parquet(path)
    rows.loc[rows.metric == row.metric, "value"] = value
    rows.to_parquet(path)


# --- every number comes from a record


# Table, column on the page, its record, and how 0.123 is printed there.
TRACED = [
    ("Text to image: recall", 3, "recall@5", MAIN, "12.3"),
    ("Text to image: recall", 5, "median_rank", MAIN, "0.123"),
    ("Text to image: recall", 9, "recall@1", MAIN | {"split": "compositional"}, "12.3"),
    ("Image to text", 4, "recall@10", MAIN | {"direction": "image_to_text"}, "12.3"),
    ("Image to text", 9, "hard_negative_accuracy_count", {"task": "hard_negatives"}, "12.3"),
    ("Lexicons, size", 2, "active_lexicons_image", MAIN, "0.123"),
    ("Lexicons, size", 4, "flops_per_pair", MAIN, "0.123"),
    ("Lexicons, size", 5, "bytes_per_image", MAIN, "0 B"),
    ("Lexicons, size", 6, "train_seconds", {"task": "training", "step": None}, "0"),
    ("Lexicons, size", 7, "train_cpu_seconds", {"task": "training", "step": None}, "0"),
    ("Lexicons, size", 9, "parameters", {"task": "training", "step": None}, "0"),
]
CONTRADICTED = MAIN | {"variant": "clip", "top_k": None, "engine": "faiss-flat"}


@pytest.fixture(scope="module")
def changed(home, tmp_path_factory, whole):
    """The page after some records were given other values."""
    own = shutil.copytree(home, tmp_path_factory.mktemp("changed") / "home")
    for _, _, metric, place, _ in TRACED:
        change(own, row_of(own, metric, variant="no_bottleneck", **place), 0.123)
    change(own, row_of(own, "qps", variant="lexlip", **MAIN | {"batch_mode": "single"}), 30.0)
    change(own, row_of(own, "recall@1", **CONTRADICTED), 0.99)
    return Page(whole(build(own, own / "site")))


def test_changing_records_changes_their_cells_and_no_others(page, changed):
    for table in dict.fromkeys(table for table, *_ in TRACED):
        before, after = page.row(table, "no_bottleneck"), changed.row(table, "no_bottleneck")
        different = {
            column: new.split(" ")[0] for column, (old, new) in enumerate(zip(before, after, strict=True)) if old != new
        }
        assert different == {column: printed.split(" ")[0] for name, column, *_, printed in TRACED if name == table}
        assert page.row(table, "lexlip") == changed.row(table, "lexlip")


def test_a_number_names_its_record(home, site):
    html = (site / "ablations.html").read_text(encoding="utf-8")
    row = row_of(home, "recall@5", variant="no_bottleneck", **MAIN)
    titles = re.findall(f'title="([^"]*)"><span class="value">{100 * row.value:.1f}<', html)
    assert f"300 queries on 60 images, 1 seed; records: {row.point_id}" in titles


def test_the_answer_follows_the_records(page, changed):
    assert "Speed, one query at a time. lexlip (impact) 400, clip (faiss-flat) 90.0 queries/s" in page.text
    assert "4.44× faster" in page.text
    assert "4.44× faster" not in changed.text
    assert "lexlip (impact) 30.0, clip (faiss-flat) 90.0 queries/s" in changed.text
    assert "3.00× slower" in changed.text


def test_a_record_that_its_queries_contradict_is_named(home, page, changed):
    assert "disagree in 2 point(s)" in changed.text  # this one, and the R@1 that TRACED changed
    assert row_of(home, "recall@1", **CONTRADICTED).point_id in changed.text
    assert "disagree in" not in page.text


def test_losses_are_said_first(first):
    verdicts = re.findall(r"\b(Loses|Open|Wins)\b (?=R@|Speed|Index)", first.text)
    assert verdicts[0] == "Loses"
    assert verdicts == sorted(verdicts, key=["Loses", "Open", "Wins"].index)


def test_differences_come_from_the_paired_queries(home, site):
    store = RecordStore(home)
    first = {}
    for variant in ("lexlip", "no_momentum"):
        queries = store.queries(row_of(home, "recall@1", variant=variant, **MAIN).point_id)
        first[variant] = np.array([ranks[0] for ranks in queries.ranks])
    csv = pd.read_csv(site / "tables" / "ablations.csv").set_index("variant")
    for k in (1, 10):
        expected = (first["no_momentum"] <= k).mean() - (first["lexlip"] <= k).mean()
        assert float(csv.loc["no_momentum", f"difference recall@{k}"]) == pytest.approx(expected)
        assert (
            csv.loc["no_momentum", f"difference recall@{k} low"]
            < expected
            < csv.loc["no_momentum", f"difference recall@{k} high"]
        )
        assert csv.loc["no_momentum", f"difference recall@{k} p"] < 0.05
    assert csv.loc["no_bottleneck", "difference recall@1 p"] > 0.05
    assert "300 paired queries of 60 images, 1 seed" in csv.loc["no_momentum", "difference recall@1 n"]


def test_significance_marks(page):
    assert (
        page.row("Text to image: recall", "no_momentum")[7].split(" ")[0].endswith("*")
        or "*" in page.row("Text to image: recall", "no_momentum")[7]
    )
    assert "*" not in page.row("Text to image: recall", "no_bottleneck")[7]
    assert "no_momentum (one seed): R@1 −" in page.text
    assert "No significant difference: no_bottleneck" in page.text


def test_untrained_baselines_are_compared_but_are_no_ablations(made, tmp_path, page_of):
    """BM25 has an engine of its own and no seed; it stands against each seed of the reference, outside the family that is corrected."""
    for seed in (0, 1):
        made.variant("lexlip", 0.4, seed=seed)
        made.variant("no_momentum", 0.1, seed=seed)
    made.retrieval(made.point("bm25", seed=None, engine="bm25", top_k=None, bits=None, checkpoint_id=""), 0.9)
    page = page_of(made.store.folder.parent, tmp_path / "site")
    row = page.row("Text to image: recall", "bm25")
    assert row[2].startswith("9") or row[2].startswith("8"), "found, though no impact index was searched"
    assert row[7].startswith("+") and " to +" in row[7] and "*" not in row[7]
    assert "bm25: R@1" not in page.text
    csv = pd.read_csv(tmp_path / "site" / "tables" / "ablations.csv").set_index("variant")
    assert "300 paired queries of 60 images" in csv.loc["bm25", "difference recall@1 n"]
    assert pd.isna(csv.loc["bm25", "difference recall@1 p"]) and csv.loc["no_momentum", "difference recall@1 p"] < 0.05


def test_html_and_csv_agree(page, site, skill):
    csv = pd.read_csv(site / "tables" / "ablations_text_to_image.csv").set_index("variant")
    for variant in skill:
        assert page.row("Text to image: recall", variant)[2].startswith(
            f"{100 * csv.loc[variant, 'recall@1 text_to_image']:.1f}"
        )


def test_pruning_and_quantising_steps_add_up(site):
    csv = pd.read_csv(site / "tables" / "compression.csv")
    assert [str(top_k).removesuffix(".0") for top_k in csv.top_k] == ["8", "16", "32", "all"]
    for metric in ("recall@1", "recall@10"):
        lost = csv[f"pruning {metric}"] + csv[f"quantising {metric}"]
        assert lost.to_numpy() == pytest.approx((csv[f"impacts {metric}"] - csv[f"whole {metric}"]).to_numpy())


def test_paper_cells_are_never_made_up(page):
    speed = page.row("The paper", "Large-scale retrieval against CLIP: speed")
    assert speed[1:4] == ["5.5× to 221.3× faster", "5.8× faster", "not measured at this scale"]
    assert page.row("The paper", "Zero-shot image classification")[3] == "not measured"


def test_a_million_images_fill_the_measured_cell(made, tmp_path, page_of):
    for name in ("lexlip", "clip"):
        made.variant(name, 0.4)
        point = made.point(name, images=1_000_000, batch_mode="single", threads=1)
        made.store.write(
            point, {"qps": 70.0 if name == "lexlip" else 10.0, "bytes_per_image": 100.0 if name == "lexlip" else 2048.0}
        )
    page = page_of(made.store.folder.parent, tmp_path / "site")
    assert page.row("The paper", "Large-scale retrieval against CLIP: speed")[3] == "7.00× the QPS one query at a time"
    assert page.row("The paper", "Large-scale retrieval against CLIP: index storage")[3] == "20.5× smaller"


def test_commands_and_definitions_are_shown(page):
    assert "python -m ablations.run --variants no_momentum" in page.text
    assert "printed as R@1 as the field does" in page.text


# --- nothing hostile runs


def test_hostile_text_is_text(made, tmp_path, whole, undrawn):
    name = "lexlip<img src=x onerror=alert(1)>"
    made.variant("lexlip", 0.4)
    made.variant("clip", 0.4)
    made.variant(name, 0.3)
    made.store.write(
        made.point("broken", command=made.hostile, engine="impact"), {}, status="failed", note=made.hostile
    )
    html = whole(build(made.store.folder.parent, tmp_path / "site"))
    page = Page(html)
    scripts = [attributes for tag, attributes in page.tags if tag == "script"]
    assert all(
        a.get("type") == "application/json" or a.get("src", "").removeprefix("static/") in STATIC for a in scripts
    )
    assert not [a for _, attributes in page.tags for a in attributes if a.startswith("on") or a == "style"]
    assert all(
        re.match(r"data:image/|figures/\w+\.svg$", attributes["src"]) for tag, attributes in page.tags if tag == "img"
    )
    assert name in page.text
    assert "<script>alert('x')</script>" in page.text
    assert "\u202e" not in html and "\\u202e" not in html


def test_policy_allows_scripts_of_the_site_only_and_no_request(each):
    policy = next(
        a["content"] for tag, a in each.tags if tag == "meta" and a.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none'; img-src 'self' data:; style-src 'sha256-")
    assert "unsafe" not in policy and "connect-src" not in policy
    drawn = [a for tag, a in each.tags if tag == "figure" and "data-plot" in a]
    assert ("script-src 'self'" in policy) == bool([a for tag, a in each.tags if tag == "script" and "src" in a])
    assert len(drawn) == len([a for tag, a in each.tags if tag == "script" and a.get("type") == "application/json"])


def test_pictures_that_are_none_are_left_out(made, tmp_path, page_of):
    made.retrieval(
        made.point("clip"),
        0.5,
        examples=[row | {"image": b"<svg onload=alert(1)>", "lexicons": "not json"} for row in made.examples("clip")],
    )
    page = page_of(made.store.folder.parent, tmp_path / "site")
    assert "no picture kept" in page.text


def test_accessible(each):
    assert [a.get("alt") for tag, a in each.tags if tag == "img" and not a.get("alt")] == []
    assert all(a.get("scope") in ("col", "row", "colgroup") for tag, a in each.tags if tag == "th")
    tags = [tag for tag, _ in each.tags]
    assert tags.count("caption") == tags.count("table")
    assert tags.count("h1") == tags.count("main") == 1
    headings = [int(tag[1]) for tag in tags if re.fullmatch("h[1-6]", tag)]
    assert all(b - a <= 1 for a, b in zip(headings, headings[1:], strict=False))
    ids = [a["id"] for _, a in each.tags if "id" in a]
    assert len(ids) == len(set(ids))
    assert [a["href"] for tag, a in each.tags if tag == "a"][0] == "#main" and "main" in ids
    assert len([a for _, a in each.tags if a.get("aria-current") == "page"]) == 1


def test_links_lead_to_files_and_anchors(each, site):
    anchors = {"": {a["id"] for _, a in each.tags if "id" in a}}
    for page in PAGES:
        parsed = Page((site / f"{page.name}.html").read_text(encoding="utf-8"))
        anchors[f"{page.name}.html"] = {a["id"] for _, a in parsed.tags if "id" in a}
    assert all((site / a["src"]).is_file() for tag, a in each.tags if tag == "img" and not a["src"].startswith("data:"))
    links = [a["href"] for tag, a in each.tags if tag == "a"]
    assert {f"{page.name}.html" for page in PAGES} <= set(links)
    for link in links:
        file, _, anchor = link.partition("#")
        assert not file or (site / file).is_file(), link
        assert not anchor or anchor in anchors[file], link


# --- nothing missing stops it


def test_no_records_at_all(tmp_path, page_of):
    (tmp_path / "home" / "results").mkdir(parents=True)
    page = page_of(tmp_path / "home", tmp_path / "site")
    assert "No answer yet" in page.text
    assert "Variants without any record: lexlip, clip" in page.text


def test_a_folder_without_records_is_refused(tmp_path):
    with pytest.raises(InputError, match="no records there"):
        build(tmp_path, tmp_path / "site")


def test_only_training_was_measured(made, tmp_path, page_of):
    made.training("lexlip", 0, 0.4)
    page = page_of(made.store.folder.parent, tmp_path / "site")
    assert page.row("Text to image: recall", "lexlip")[2] == "not measured"
    assert page.row("Lexicons, size", "lexlip")[6] == "133"


def test_failures_are_said(made, tmp_path, page_of):
    made.variant("lexlip", 0.4)
    made.store.write(
        dataclasses.replace(made.point("no_momentum"), task="training", engine="", top_k=None, bits=None),
        {},
        status="failed",
        note="loss is not finite",
    )
    made.store.write(made.point("clip"), {"recall@1": 0.0}, status="out_of_memory", note="faiss")
    page = page_of(made.store.folder.parent, tmp_path / "site")
    assert page.row("Text to image: recall", "no_momentum")[2] == "failed: loss is not finite"
    assert page.row("Text to image: recall", "clip")[2] == "out of memory: faiss"
    assert "Out of memory: clip, retrieval, faiss-flat, seed 0 (faiss)." in page.text


def test_nan_unknown_metric_and_missing_columns(made, tmp_path, whole, undrawn):
    made.variant("lexlip", 0.4)

    class Foreign:
        """A store of another version: a metric nobody knows, a NaN, and columns that are not there."""

        def read(self):
            rows = made.store.read().drop(columns=["gpu", "memory_gb", "index_id", "versions"])
            strange = rows.head(1).assign(metric="astonishment", value=3.0)
            median = (rows.metric == "median_rank") & (rows.top_k == 32) & (rows.engine == "impact")
            return pd.concat([rows.assign(value=rows.value.mask(median.fillna(False))), strange])

        queries, examples = staticmethod(made.store.queries), staticmethod(made.store.examples)

    page = Page(whole(write_site(Evidence(Foreign()), tmp_path / "site")))
    assert page.row("Text to image: recall", "lexlip")[5] == "not a number"
    assert "Metrics unknown to the registry, not used in any table: astonishment." in page.text


def test_several_seeds_are_averaged_and_widen_the_interval(made, tmp_path, undrawn):
    for seed, skill in enumerate((0.2, 0.6)):
        made.variant("lexlip", skill, seed)
        made.variant("clip", 0.4, seed)
    site = build(made.store.folder.parent, tmp_path / "site").parent
    csv = pd.read_csv(site / "tables" / "ablations.csv").set_index("variant")
    store = made.store.read()
    rows = store[
        (store.variant == "lexlip")
        & (store.metric == "recall@1")
        & (store.engine == "impact")
        & (store.top_k == 32)
        & (store.split == "test")
    ]
    rows = rows[(rows.direction == "text_to_image") & (rows.task == "retrieval")]
    assert csv.loc["lexlip", "recall@1 text_to_image"] == pytest.approx(rows.value.mean())
    assert csv.loc["lexlip", "recall@1 text_to_image low"] < rows.value.min() + 0.05
    assert "2 seeds" in csv.loc["lexlip", "recall@1 text_to_image n"]


def test_an_earlier_training_is_left_out(made, tmp_path):
    made.retrieval(made.point("lexlip", checkpoint_id="older"), 0.9, bytes_per_image=1.0)
    made.store.write(
        made.point("lexlip", checkpoint_id="newer"), {"bytes_per_image": 7.0}, started="2026-02-01T00:00:00+00:00"
    )
    evidence = Evidence(made.store)
    assert evidence.superseded == 1
    assert evidence.cell("lexlip", "bytes_per_image").value == 7.0


def test_one_profile_at_a_time(made):
    made.variant("lexlip", 0.4)
    made.store.write(made.point("lexlip", profile="smoke"), {"recall@1": 0.5}, started="2020-01-01T00:00:00+00:00")
    assert Evidence(made.store).profile == "quick"
    assert Evidence(made.store, Reading(profile="smoke")).cell("lexlip", "recall@1").value == 0.5
    with pytest.raises(InputError, match="no records of profile 'paper'"):
        Evidence(made.store, Reading(profile="paper"))


# --- the command, and bundles of records


def test_bundle_makes_the_same_bytes(home, site, tmp_path):
    write([RecordStore(home)], tmp_path / "reference")
    assert sorted(file.name for file in (tmp_path / "reference").iterdir()) == [
        "examples.parquet",
        "queries.parquet",
        "records.parquet",
    ]
    again = build(tmp_path / "reference", tmp_path / "site").parent
    for file in (
        *(f"{page.name}.html" for page in PAGES),
        "figures/efficiency.svg",
        "tables/ablations.tex",
        "data/records.csv.zip",
    ):
        assert (again / file).read_bytes() == (site / file).read_bytes()
    assert Bundle(tmp_path / "reference").queries("nothing") is None


def test_a_compact_bundle_tests_the_same_differences(home, made, site, tmp_path):
    """What goes are queries of other variants than the two compared at other numbers of lexicons kept, and with them nothing but intervals of theirs."""
    for top_k in (8, 32):
        made.retrieval(made.point("beside", top_k=top_k), 0.3)
        made.retrieval(made.point("lexlip", top_k=top_k), 0.5)
    write([Compact(made.store)], tmp_path / "small")
    small = Bundle(tmp_path / "small")
    told = {
        (variant, top_k): small.queries(made.point(variant, top_k=top_k).id) is not None
        for variant in ("lexlip", "beside")
        for top_k in (8, 32)
    }
    assert told == {("lexlip", 8): True, ("lexlip", 32): True, ("beside", 8): False, ("beside", 32): True}
    assert len(small.read()) == len(made.store.read())
    write([Compact(RecordStore(home))], tmp_path / "reference")
    again = build(tmp_path / "reference", tmp_path / "site").parent
    for file in ("tables/ablations.csv", "tables/zero_shot.csv", "figures/forest.svg", "index.html"):
        assert (again / file).read_bytes() == (site / file).read_bytes()


def test_a_bundle_takes_some_tasks_of_a_home_and_adds_those_of_another(home, made, tmp_path):
    write([RecordStore(home)], tmp_path / "reference")
    made.variant("lexlip", 0.3)
    made.retrieval(made.point("another"), 0.2)
    write([made.store, Bundle(tmp_path / "reference")], tmp_path / "reference", {"retrieval"})
    before, after = RecordStore(home).read(), Bundle(tmp_path / "reference").read()
    assert set(after.task) == set(before.task) and set(after.variant) == {*before.variant, "another"}
    assert len(after) == len(after.drop_duplicates(["point_id", "metric"]))
    (ours,) = set(after[after.variant == "another"].point_id)
    assert len(Bundle(tmp_path / "reference").queries(ours)) == 300
    shared = made.point("lexlip").id  # measured in both: the first store's stands
    assert set(after[after.point_id == shared].value) == set((mine := made.store.read())[mine.point_id == shared].value)
    with pytest.raises(
        InputError,
        match="no records of the task 'scale'; there are diagnostics, hard_negatives, retrieval, training, zero_shot",
    ):
        write([made.store], tmp_path / "other", {"scale"})


def test_a_bundle_does_not_say_where_its_records_lay(made, tmp_path):
    for number, home in enumerate(("/home/me/runs", "'/a b/runs'", "=x")):
        flag = f"--home{home}" if home[0] == "=" else f"--home {home}"
        point = dataclasses.replace(
            made.point("lexlip", seed=number), command=f"python -m bench.scale {flag} --corpus 1M"
        )
        made.store.write(point, {"recall@1": 0.5})
    write([made.store], tmp_path / "reference")
    assert set(Bundle(tmp_path / "reference").read().command) == {"python -m bench.scale --corpus 1M"}


def test_command(made, tmp_path, capsys, undrawn):
    made.training("lexlip", 0, 0.4)
    home, out = made.store.folder.parent, tmp_path / "out"
    asked = ["--home", str(home), "--out", str(out)]
    assert command.cli.run(command.main, command.parser(), asked) == 0
    assert capsys.readouterr().out.strip() == str(out / "index.html")
    before = (out / "index.html").read_bytes()
    broken = next(iter(made.store.folder.glob("*.parquet")))
    broken.write_bytes(broken.read_bytes()[:100])
    assert command.cli.run(command.main, command.parser(), asked) == 2
    assert broken.name in capsys.readouterr().err
    assert (out / "index.html").read_bytes() == before


def test_figures_are_pictures(site):
    for name in ("efficiency", "compression", "learning"):
        assert (site / "figures" / f"{name}.svg").read_bytes().startswith(b"<?xml")
        assert (site / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
