"""Homes and sites of made-up records, each made once for all tests."""

import shutil

import pytest

from bench.store.records import RecordStore
from reports.build import build
from reports.pages.site import PAGES
from tests.reports import studies
from tests.reports.html import Page
from tests.reports.made import SKILL, Made
from tests.reports.scale.records import FLAT
from tests.reports.scale.records import Made as Sweep


@pytest.fixture(scope="session")
def sweep_of():
    """The writer of sweeps."""
    return Sweep


@pytest.fixture(scope="session")
def swept(home, tmp_path_factory):
    """A home with the variants of `home`, a sweep over three sizes, and the studies; read only."""
    swept = shutil.copytree(home, tmp_path_factory.mktemp("swept") / "home")
    made = Sweep(RecordStore(swept))
    for images in (1_000, 10_000, 100_000):
        lost, per_second = images / 1e6, 1e7 / images
        for top_k in (16, 64):
            at = {"images": images, "seconds": images / 1e4}
            made.impact_single(top_k, 0.4 + top_k / 1000 - lost, per_second / top_k, 2.0 * top_k, **at)
        made.search("dense", 0.45 - lost, per_second / 100, 2048.0, images=images, **FLAT)
        hnsw = {"engine": "faiss-hnsw", "knobs": {"ef": 16}}
        made.search("dense", 0.43 - lost, 5e4 / images**0.3, 2304.0, images=images, **hnsw)
    studies.every(Made(made.store))
    return swept


@pytest.fixture
def page_of(whole):
    """Builds a site and parses all of its pages as one."""
    return lambda home, out: Page(whole(build(home, out)))


@pytest.fixture(scope="session")
def page(site, whole):
    """All pages of `site`, parsed as one."""
    return Page(whole(site / "index.html"))


@pytest.fixture(params=[page.name for page in PAGES])
def each(site, request):
    """Every page by itself."""
    return Page((site / f"{request.param}.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def whole():
    """Reads all pages of a site, given its first page."""

    def read(index) -> str:
        return "\n".join((index.parent / f"{page.name}.html").read_text(encoding="utf-8") for page in PAGES)

    return read


@pytest.fixture
def made(tmp_path) -> Made:
    """An empty store to write made-up points to."""
    return Made(RecordStore(tmp_path / "home"))


@pytest.fixture(scope="session")
def skill() -> dict[str, float]:
    """The variants of `home`."""
    return SKILL


@pytest.fixture(scope="session")
def site(home, tmp_path_factory):
    """The folder of the site built from `home`."""
    return build(home, tmp_path_factory.mktemp("site") / "site").parent


@pytest.fixture(scope="session")
def home(tmp_path_factory):
    """A home with made-up records of four variants; read only."""
    home = tmp_path_factory.mktemp("made_up") / "home"
    made = Made(RecordStore(home))
    for name, skill in SKILL.items():
        made.variant(name, skill)
    return home
