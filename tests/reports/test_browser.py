"""The site in a browser: wide, on a phone, dark, on paper, without scripts. Needs chromium or chrome on the path."""

import shutil
import zipfile
from importlib import resources

import pandas as pd
import pytest

from bench.store.records import RecordStore
from reports.build import build
from reports.pages.site import PAGES
from tests.reports.made import Made

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]
SITUATIONS = {
    "wide": (1280, "light"),
    "dark": (1280, "dark"),
    "phone": (390, "light"),
    "phone in the dark": (390, "dark"),
}
PAPER = {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 27)"}
READY = "() => document.documentElement.dataset.ready === 'yes'"
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
  for (const e of document.querySelectorAll('body *:not(script):not(svg, svg :not(text)):not(option)')) {
    if (!e.checkVisibility()) continue;
    if (![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())) continue;
    const [a, b] = [light(parse(getComputedStyle(e)[e.tagName === 'text' ? 'fill' : 'color'])), light(behind(e))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < LEAST) low.push(`${e.tagName}.${e.className} ${ratio.toFixed(2)} ${e.textContent.slice(0, 30)}`);
  }
  return low;
}""".replace("LEAST", str(LEAST_CONTRAST))
CUT = """() => [...document.querySelectorAll('table')].filter(table => {
  const box = table.closest('.scroll'), first = table.querySelector('tbody th');
  return table.offsetWidth > box.clientWidth + 1 && first && getComputedStyle(first).position !== 'sticky';
}).map(table => table.caption.textContent)"""
MARKS = "#figure-explore_{} svg.wide [data-k]:not([hidden])"


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
    """Opens a page of a site; returns it with console messages and requested URLs."""
    contexts = []

    def open_(site, name: str, width: int = 1280, **options):
        contexts.append(browser.new_context(viewport={"width": width, "height": 800}, **options))
        page = contexts[-1].new_page()
        said, asked = [], []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto((site / f"{name}.html").as_uri())
        if options.get("java_script_enabled", True):
            page.wait_for_function(READY)
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
    for width, scheme in SITUATIONS.values():
        page.set_viewport_size({"width": width, "height": 800})
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, (
            "the page itself must not scroll sideways"
        )
        assert hard_to_read(page) == []
        assert page.evaluate(CUT) == [], "a table that does not fit scrolls by itself, with its first column fixed"
        assert page.locator(f"svg.chart.{'narrow' if width > 700 else 'wide'}:visible").count() == 0
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == PAPER[scheme]
    assert page.evaluate("[...document.images].filter(i => !i.complete || !i.naturalWidth).length") == 0
    page.evaluate(resources.files(axe).joinpath("axe.min.js").read_text(encoding="utf-8"))
    found = page.evaluate("axe.run()")["violations"]
    serious = [(one["id"], one["nodes"][0]["html"][:200]) for one in found if one["impact"] in ("serious", "critical")]
    assert serious == []
    assert said == []
    assert [url for url in asked if not url.startswith(("data:", site.as_uri()))] == []


def test_a_page_opens_readable_and_offline(opened_in, site):
    check(site, *opened_in(site, "explore"))


@pytest.mark.nightly
@pytest.mark.parametrize("name", ["index", "corpus-birds/index", "corpus-birds/explore"])
def test_several_corpora_open_readable_and_offline(opened_in, site_of_two, name):
    check(site_of_two, *opened_in(site_of_two, name))


@pytest.mark.nightly
@pytest.mark.parametrize("name", [page.name for page in PAGES])
def test_opens_readable_and_offline(opened, site_of_all, name):
    check(site_of_all, *opened(name))


@pytest.mark.nightly
def test_the_policy_holds(opened):
    """What it forbids does not happen: a script in the page, code from text, a request."""
    page, said, _ = opened("explore")
    page.evaluate("""() => {
      const script = document.createElement('script');
      script.textContent = 'document.title = "ran"';
      document.body.append(script);
      fetch('https://example.org/').catch(() => {});
    }""")
    page.wait_for_timeout(50)
    assert page.title() != "ran"
    assert any("script" in line for line in said) and any("connect" in line for line in said)


@pytest.mark.nightly
def test_the_first_screen_holds_the_question_the_chart_and_the_sentences(opened):
    page, _, _ = opened("index")
    for selector in ("h1", "#figure-answer svg.wide", ".sentences li:last-child"):
        box = page.locator(selector).bounding_box()
        assert box["y"] + box["height"] <= 800, selector


@pytest.mark.nightly
def test_choices_change_chart_and_table_together(opened):
    page, said, _ = opened("explore")
    rows = page.locator("#table-explore tbody tr:visible")
    assert rows.count() == 4 and page.locator(MARKS.format(1)).count() == 8, "two panels: the task and the engine"
    assert page.locator(".controls output").text_content() == "4 searches"
    selects = page.locator(".controls select")
    assert selects.first.locator("option").all_text_contents()[:2] == ["100,000 images", "60 images, all models"]
    page.select_option(".controls label:has-text('Vectors') select", "dense")
    assert rows.count() == 2 and page.locator(MARKS.format(1)).count() == 4
    page.select_option(".controls label:has-text('Gallery') select", "60 images, all models")
    assert page.locator("#figure-explore_1").is_hidden() and page.locator("#figure-explore_2").is_visible()
    assert set(rows.locator("td:nth-child(2)").all_text_contents()) == {"dense"}
    assert said == []


@pytest.mark.nightly
def test_a_heading_sorts(opened):
    page, _, _ = opened("explore")
    heading = page.locator("#table-explore th:has-text('Queries/s')")
    cells = page.locator("#table-explore tbody tr:visible td:nth-child(7)")

    def rates() -> list[float]:
        return [float(value) for value in cells.evaluate_all("cells => cells.map(cell => cell.dataset.v)")]

    heading.click()
    assert rates() == sorted(rates(), reverse=True) and heading.get_attribute("aria-sort") == "descending"
    heading.press("Enter")
    assert rates() == sorted(rates())


@pytest.mark.nightly
def test_pointing_shows_the_record(opened, swept):
    page, _, _ = opened("index")
    page.locator("#figure-answer svg.wide .c1 .m").first.hover()
    tip = page.locator(".tip")
    tip.wait_for(state="visible")
    rows = RecordStore(swept).read()
    named = tip.inner_text().partition("records: ")[2].split(", ")
    assert len(named) == 2 and set(named) <= set(rows[rows.variant == "clip"].point_id)
    page.mouse.move(2, 2)
    tip.wait_for(state="hidden")


@pytest.mark.nightly
def test_without_scripts_charts_and_tables_are_whole(opened):
    page, _, _ = opened("explore", java_script_enabled=False)
    assert page.locator("#figure-explore_1 svg.wide").is_visible() and page.locator(".controls").is_hidden()
    assert page.locator("#table-explore tbody tr:visible").count() > 12


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
def test_prints(opened):
    page, _, _ = opened("explore")
    page.emulate_media(media="print")
    assert page.locator("#figure-explore_1 svg.wide").is_visible() and page.locator(".controls").is_hidden()
    assert page.pdf(format="A4").startswith(b"%PDF")


@pytest.mark.nightly
def test_keyboard(opened):
    """The first stop leads past the navigation, a choice can be made, and a wide table can be scrolled."""
    page, _, _ = opened("explore", width=390)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('href')") == "#main"
    choice = page.locator(".controls select").last
    choice.focus()
    page.keyboard.press("ArrowDown")
    assert choice.input_value()
    page.locator("figure.table .scroll[tabindex='0']").first.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("() => document.querySelector('figure.table .scroll').scrollLeft > 0")
