"""The site in a browser: wide, on a phone, dark, on paper, without scripts. Needs chromium or chrome on the path."""

import io
import json
import shutil
import zipfile
from importlib import resources

import pandas as pd
import pytest
from PIL import Image

from bench.store.records import RecordStore
from reports.build import build
from reports.pages.site import PAGES
from tests.reports.made import Made

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]
SITUATIONS = {
    "wide": (1366, "light"),
    "dark": (1366, "dark"),
    "phone": (390, "light"),
    "phone in the dark": (390, "dark"),
}
PAPER = {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 27)"}
DRAWN = "() => !document.querySelector('figure[data-plot]') || document.documentElement.dataset.plots === 'drawn'"
# WCAG 2.2, 1.4.3: text against its background; that of a plot has its colour in `fill`.
LEAST_CONTRAST = 4.5
CONTRASTS = """() => {
  const channel = c => { c /= 255; return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4 };
  const parse = text => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const behind = e => {
    for (; e; e = e.parentElement) {
      const c = parse(getComputedStyle(e).backgroundColor);
      if (c.length < 4 || c[3] > 0) return c;
    }
    return [255, 255, 255];
  };
  const low = [];
  for (const e of document.querySelectorAll('body *:not(script):not(svg, svg :not(text))')) {
    if (![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())) continue;
    const [a, b] = [light(parse(getComputedStyle(e)[e.tagName === 'text' ? 'fill' : 'color'])), light(behind(e))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < LEAST) low.push(`${e.tagName}.${e.className} ${ratio.toFixed(2)} ${e.textContent.slice(0, 30)}`);
  }
  return low;
}""".replace("LEAST", str(LEAST_CONTRAST))
POINTS = "#figure-explorer .live svg .mark-symbol.role-mark path"


@pytest.fixture(scope="module")
def site_of_all(swept, tmp_path_factory):
    """The folder of a site with content on every page."""
    return build(swept, tmp_path_factory.mktemp("of_all") / "site").parent


@pytest.fixture(scope="module")
def site_of_two(swept, tmp_path_factory):
    """The folder of a site of two corpora."""
    home = shutil.copytree(swept, tmp_path_factory.mktemp("of_two") / "home")
    made = Made(RecordStore(home))
    for variant in ("lexlip", "clip"):
        made.retrieval(made.point(variant, corpus="birds", data_id="birds"), 0.5)
    return build(home, home / "site").parent


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM:
        pytest.skip("no chromium on the path: the site was not opened in a browser")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def opened_in(browser):
    """Opens a page of a site with its plots drawn; returns it with console messages and requested URLs."""
    contexts = []

    def open_(site, name: str, width: int = 1366, **options):
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, **options))
        page = contexts[-1].new_page()
        said, asked = [], []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto((site / f"{name}.html").as_uri())
        if options.get("java_script_enabled", True):
            page.wait_for_function(DRAWN)
        return page, said, asked

    yield open_
    for context in contexts:
        context.close()


@pytest.fixture
def opened(opened_in, site_of_all):
    """Opens a page of the site with content on every page."""
    return lambda name, *args, **options: opened_in(site_of_all, name, *args, **options)


def hard_to_read(page) -> list[str]:
    """Texts with too little contrast, once the plots had time to be drawn in the other scheme."""
    for _ in range(30):
        if not (found := page.evaluate(CONTRASTS)):
            break
        page.wait_for_timeout(100)
    return found


def check(site, page, said, asked) -> None:
    """Readable in every situation, accessible, without console messages and without requests beyond the site."""
    axe = pytest.importorskip("axe_playwright_python", reason="axe-playwright-python is not installed")
    plots = page.locator("figure[data-plot]").count()
    assert page.locator("figure.alive .live svg").count() >= plots, "every figure has an interactive plot"
    for width, scheme in SITUATIONS.values():
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, (
            "the page itself must not scroll sideways"
        )
        assert hard_to_read(page) == []
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == PAPER[scheme]
    assert page.evaluate("[...document.images].filter(i => !i.complete || !i.naturalWidth).length") == 0
    page.evaluate(resources.files(axe).joinpath("axe.min.js").read_text(encoding="utf-8"))
    found = page.evaluate("axe.run()")["violations"]
    serious = [(one["id"], one["nodes"][0]["html"][:200]) for one in found if one["impact"] in ("serious", "critical")]
    assert serious == []
    assert said == []
    assert [url for url in asked if not url.startswith(("data:", site.as_uri()))] == []


def test_a_page_opens_readable_and_offline(opened_in, site):
    check(site, *opened_in(site, "efficacy"))


@pytest.mark.nightly
@pytest.mark.parametrize("name", ["index", "corpus-birds/index", "corpus-birds/efficacy", "corpus-scenes/scale"])
def test_several_corpora_open_readable_and_offline(opened_in, site_of_two, name):
    check(site_of_two, *opened_in(site_of_two, name))


@pytest.mark.nightly
@pytest.mark.parametrize("name", [page.name for page in PAGES])
def test_opens_readable_and_offline(opened, site_of_all, name):
    check(site_of_all, *opened(name))


@pytest.mark.nightly
def test_the_policy_holds(opened):
    """What it forbids does not happen: a script in the page, code from text, a request."""
    page, said, _ = opened("efficacy")
    page.evaluate("""() => {
      const script = document.createElement('script');
      script.textContent = 'document.title = "ran"';
      document.body.append(script);
      fetch('https://example.org/').catch(() => {});
    }""")
    page.wait_for_timeout(50)
    assert page.title() != "ran"
    assert any("script" in line for line in said) and any("connect" in line for line in said)


def count(page, points: int) -> None:
    """Waits until a number of points is drawn."""
    page.wait_for_function(
        f"() => document.querySelectorAll({POINTS!r}).length === {points}"
    )  # a function: the policy forbids code from text
    assert page.locator("#figure-explorer output").text_content() == f"{points} points shown"


@pytest.mark.nightly
def test_choices_change_the_plot(opened):
    page, said, _ = opened("efficacy")
    views = page.locator("#figure-explorer .view:visible svg")
    count(page, 12)  # the sweep at three sizes, each a view: two numbers of lexicons kept, two dense engines
    assert views.count() == 3
    page.select_option("#figure-explorer-images", "100000")
    count(page, 4)
    assert views.count() == 1
    before = page.locator(POINTS).evaluate_all("paths => paths.map(path => path.getAttribute('transform'))")
    page.select_option("#figure-explorer-x", "1")
    page.wait_for_function(
        "() => document.querySelector('#figure-explorer .live').textContent.includes('index bytes per image')"
    )
    count(page, 4)
    assert page.locator(POINTS).evaluate_all("paths => paths.map(path => path.getAttribute('transform'))") != before
    page.select_option("#figure-explorer-top_k", "64")
    count(page, 1)
    page.select_option("#figure-explorer-images", "1000")
    count(page, 1)
    page.select_option("#figure-explorer-top_k", "")
    count(page, 4)
    page.select_option("#figure-explorer-source", index=1)
    assert page.locator("#figure-explorer-images option").all_text_contents() == ["all", "60"], (
        "the gallery of the variants"
    )
    packed = json.loads(page.locator("#figure-explorer script").text_content())
    columns = {field: packed["columns"][field] for field in ("images", "mode", "same", "bytes_per_image", "recall@1")}
    rows = [{field: values[i] for field, values in columns.items()} for i in range(packed["rows"])]
    mine = [
        row | {"same": tuple(row["same"])}
        for row in rows
        if row["images"] == 60 and row["mode"] == [packed["texts"].index("one query at a time")]
    ]
    count(page, len({(row["same"], row["bytes_per_image"], row["recall@1"]) for row in mine if row["bytes_per_image"]}))
    assert said == []


@pytest.mark.nightly
def test_pointing_shows_the_record(opened, swept):
    page, _, _ = opened("efficacy")
    page.select_option("#figure-explorer-source", index=1)
    page.select_option("#figure-explorer-engine", "faiss-flat")
    count(page, 1)
    page.locator(POINTS).hover()
    tip = page.locator(".tip")
    tip.wait_for(state="visible")
    rows = RecordStore(swept).read()
    mine = rows[
        (rows.variant == "clip")
        & (rows.split == "test")
        & (rows.direction == "text_to_image")
        & (rows.task == "retrieval")
    ]
    exact = mine[(mine.metric == "recall@1")].iloc[0]
    timed = mine[(mine.metric == "qps") & (mine.batch_mode == "single")].iloc[0]
    text = tip.inner_text()
    assert exact.point_id in text and timed.point_id in text
    assert (
        f"R@1 {100 * exact.value:.1f} %" in text and "300 queries on 60 images, 1 seed" in text and "queries/s" in text
    )
    page.mouse.move(2, 2)
    tip.wait_for(state="hidden")


@pytest.mark.nightly
def test_small_multiples_share_the_axis_of_cost(opened):
    page, _, _ = opened("efficacy")
    count(page, 12)
    axes = page.locator("#figure-explorer .view:visible .role-axis-label").evaluate_all(
        "groups => groups.map(group => [...group.querySelectorAll('text')].map(text => text.textContent).join(' '))"
    )
    assert len(axes) == 6 and axes[0] == axes[2] == axes[4], "an x and a y for each of three sizes"


@pytest.mark.nightly
def test_pointing_at_a_learning_curve_says_what_it_is(opened, swept):
    page, _, _ = opened("ablations")
    page.locator("#figure-learning .live .view").first.locator(
        ".mark-symbol.role-mark path"
    ).last.hover()  # no other covers it
    tip = page.locator(".tip")
    tip.wait_for(state="visible")
    rows = RecordStore(swept).read()
    rows = rows[
        (rows.task == "training")
        & (rows.split == "val")
        & (rows.metric == "recall@1")
        & (rows.direction == "text_to_image")
    ]
    lines = tip.inner_text().splitlines()
    mine = rows[(rows.variant == lines[0]) & (rows.step == 400)].iloc[0]
    assert lines[1:] == ["optimiser step: 400", f"R@1, text to image, %: {100 * mine.value:,.4g}", "seed 0"]


@pytest.mark.nightly
@pytest.mark.parametrize("scheme", PAPER)
def test_the_still_figures_follow_the_scheme(opened, scheme):
    page, _, _ = opened("efficacy", java_script_enabled=False, color_scheme=scheme)
    picture = Image.open(io.BytesIO(page.locator("#figure-explorer .still img").screenshot())).convert("RGB")
    assert picture.getpixel((10, 10)) == tuple(int(part) for part in PAPER[scheme][4:-1].split(","))


@pytest.mark.nightly
def test_without_scripts_the_figures_stay(opened):
    page, _, _ = opened("efficacy", java_script_enabled=False)
    assert page.locator(".live").count() == 0
    assert page.locator("figure[data-plot] .still img").count() >= 3
    assert page.locator("#figure-explorer .still img").is_visible()


@pytest.mark.nightly
def test_records_can_be_downloaded(opened, swept, tmp_path):
    page, _, _ = opened("method")
    with page.expect_download() as started:
        page.click("text=records.csv.zip")
    started.value.save_as(tmp_path / "records.csv.zip")
    with zipfile.ZipFile(tmp_path / "records.csv.zip") as archive, archive.open("records.csv") as file:
        read = pd.read_csv(file)
    mine = RecordStore(swept).read()
    assert sorted(read.point_id + read.metric) == sorted(mine.point_id + mine.metric)


@pytest.mark.nightly
def test_prints_the_still_figures(opened):
    page, _, _ = opened("efficacy")
    page.emulate_media(media="print")
    assert (
        page.locator("#figure-explorer .still img").is_visible()
        and not page.locator("#figure-explorer .live").is_visible()
    )
    assert page.pdf(format="A4").startswith(b"%PDF")


@pytest.mark.nightly
def test_keyboard(opened):
    """The first stop leads past the navigation, a choice can be made, and a wide table can be scrolled."""
    page, _, _ = opened("efficacy", width=390)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('href')") == "#main"
    page.locator("#figure-explorer-engine").focus()
    page.keyboard.press("ArrowDown")
    assert page.locator("#figure-explorer-engine").input_value()
    table = page.locator("figure.table .scroll[tabindex='0']").first
    table.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("() => document.querySelector('figure.table .scroll').scrollLeft > 0")
