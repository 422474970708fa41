"""The site of records of several corpora: a first page that names each, and pages of its own for each."""

import dataclasses
import re
import shutil
from urllib.parse import urldefrag

import pandas as pd
import pytest

from bench.store.records import RecordStore
from reports.build import build, main, parser
from reports.pages import corpora
from reports.pages.site import PAGES
from reports.records.evidence import Evidence
from tests.reports.html import Page
from tests.reports.made import CAPTIONS, Made
from tests.reports.scale.records import FLAT, LEXICON, ONE
from tests.reports.scale.records import Made as Sweep

BIRDS = 40  # images


@dataclasses.dataclass
class Birds(Made):
    """Points on another data set."""

    images: int = BIRDS

    def point(self, variant, **fields):
        return super().point(variant, **({"corpus": "birds", "data_id": "birds"} | fields))


@pytest.fixture(scope="session")
def three(home, tmp_path_factory):
    """A home with four variants on `scenes`, two on `birds`, and the user's own vectors; read only."""
    three = shutil.copytree(home, tmp_path_factory.mktemp("three") / "home")
    made, swept = Birds(RecordStore(three)), Sweep(RecordStore(three))
    made.variant("lexlip", 0.2)
    made.variant("clip", 0.1)
    own = {"corpus": "vectors:mine", "data_id": "mine", "profile": "", "variant": "", "checkpoint_id": ""}
    own |= {"images": 1234, "queries": 77}
    swept.search("lexicon", 0.6, {ONE: 100.0}, 64.0, engine="impact", top_k=64, bits=8, knobs=LEXICON, **own)
    swept.search("dense", 0.5, {ONE: 50.0}, 128.0, **FLAT, **own)
    return three


@pytest.fixture(scope="session")
def site_of_three(three, tmp_path_factory):
    return build(three, tmp_path_factory.mktemp("of_three") / "site").parent


def read(path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def test_the_first_page_is_that_of_the_largest_and_names_the_others(site_of_three):
    html = (site_of_three / "index.html").read_text(encoding="utf-8")
    others = html.partition("Other corpora")[2].partition("</ul>")[0]
    assert f"birds</bdi></a>: {BIRDS} images, {BIRDS * CAPTIONS} queries" in others
    assert "vectors:mine</bdi></a>: 1,234 images, 77 queries" in others and "scenes" not in others
    assert read(site_of_three / "index.html").row("The models", "no_momentum")


def test_each_corpus_has_its_own_pages_only(site_of_three):
    sizes = {"": "60", "corpus-birds": str(BIRDS), "corpus-vectors-mine": "1,234"}
    for folder, size in sizes.items():
        explore = read(site_of_three / folder / "explore.html")
        assert f"{size} images" in explore.text
        assert not [other for other in set(sizes.values()) - {size} if f" {other} images" in explore.text]
        assert "Not on these pages" not in read(site_of_three / folder / "method.html").text
    assert "no_momentum" not in read(site_of_three / "corpus-birds" / "ablations.html").text
    names = {path.name for path in site_of_three.iterdir() if path.is_dir()}
    assert names == {"corpus-birds", "corpus-vectors-mine", "static", "data", "tables", "figures"}


def test_every_link_of_every_page_leads_somewhere(site_of_three):
    for path in site_of_three.rglob("*.html"):
        html = path.read_text(encoding="utf-8")
        for target in re.findall(r'(?:href|src)="([^"]+)"', html):
            if target.startswith(("data:", "http")):
                continue
            file, anchor = urldefrag(target)
            file = (path.parent / file) if file else path
            assert file.is_file(), f"{path}: {target}"
            assert not anchor or f'id="{anchor}"' in file.read_text(encoding="utf-8"), f"{path}: {target}"


def test_the_corpora_are_in_the_navigation(site_of_three):
    html = (site_of_three / "corpus-birds" / "scale.html").read_text(encoding="utf-8")
    links = re.findall(r'<a href="\.\./([^"]*?)scale\.html"( aria-current="true")?>', html)
    assert dict(links) == {"": "", "corpus-birds/": ' aria-current="true"', "corpus-vectors-mine/": ""}
    html = (site_of_three / "scale.html").read_text(encoding="utf-8")
    assert '<a href="corpus-birds/scale.html">' in html and '<a href="scale.html" aria-current="true">' in html


def test_one_corpus_has_a_site_without_folders(site, tmp_path, three):
    assert {path.name for path in site.iterdir()} == {
        *(f"{page.name}.html" for page in PAGES), "static", "data", "tables", "figures",
    }  # fmt: skip
    assert 'aria-label="Corpora"' not in (site / "index.html").read_text(encoding="utf-8")
    main(parser().parse_args(["--home", str(three), "--corpus", "birds", "--out", str(tmp_path / "site")]))
    assert (tmp_path / "site" / "explore.html").exists() and not list((tmp_path / "site").glob("corpus-*"))
    assert "quick on scenes" in read(tmp_path / "site" / "method.html").text, "it says what is not shown"


def test_one_data_set_under_two_titles_is_one_corpus(made, tmp_path):
    for variant, corpus in (("lexlip", "mine"), ("clip", "copy")):
        made.retrieval(made.point(variant, corpus=corpus), 0.5)
    assert not list(build(made.store.folder.parent, tmp_path / "site").parent.glob("corpus-*"))
    found = Evidence(made.store)
    assert found.variants == ["lexlip", "clip"] and len(found.by_corpus()) == 1


def test_two_corpora_of_one_title_are_two(made, tmp_path):
    for variant, data_id in (("lexlip", "a" * 16), ("clip", "b" * 16)):
        made.retrieval(made.point(variant, data_id=data_id), 0.5)
    site, found = build(made.store.folder.parent, tmp_path / "site").parent, set()
    for path in (site, *site.glob("corpus-scenes-*")):
        table = (path / "tables" / "ablations.csv").read_text(encoding="utf-8")
        found.add(("\nlexlip," in table, "\nclip," in table))
        assert read(path / "method.html").row("Caveats", "“scenes” names 2 data sets")[1]
    assert found == {(True, False), (False, True)}


def test_generated_vectors_are_with_the_corpus_that_they_were_fitted_to(three):
    class Both:
        """The records of `three`, and generated vectors of `birds`."""

        def read(self):
            rows = RecordStore(three).read()
            mine = rows[rows.corpus == "vectors:mine"]
            made = mine.assign(corpus="synthetic:birds", data_id="birds", profile="quick", point_id="g" + mine.point_id)
            return pd.concat([rows, made], ignore_index=True)

    found = {one.corpus: set(one.generated.corpus) for one in Evidence(Both()).by_corpus()}
    assert found == {"scenes": set(), "birds": {"synthetic:birds"}, "vectors:mine": set()}


def test_folders_are_names_that_any_file_system_takes():
    names = ["data", "Data", "../a/b", "鳥", "", "con", "vectors:x y", "x" * 300]
    assert corpora.folders(names) == [
        "corpus-data", "corpus-data-2", "corpus-a-b", "corpus", "corpus-2", "corpus-con", "corpus-vectors-x-y",
        f"corpus-{40 * 'x'}",
    ]  # fmt: skip
