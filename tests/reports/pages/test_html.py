"""HTML of the pages: hostile text stays text, the policy holds, headings, links and files are in order."""

import re

from reports.build import build
from reports.pages.site import PAGES, STATIC
from tests.reports.html import Page


def test_hostile_text_is_text(made, tmp_path, whole):
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
    assert scripts and all(a["src"].removeprefix("static/") in STATIC for a in scripts)
    assert not [a for _, attributes in page.tags for a in attributes if a.startswith("on") or a == "style"]
    assert all(attributes["src"].startswith("data:image/") for tag, attributes in page.tags if tag == "img")
    assert name in page.text
    assert "<script>alert('x')</script>" in page.text
    assert "\u202e" not in html and "\\u202e" not in html


def test_policy_allows_scripts_of_the_site_only_and_no_request(each):
    policy = next(
        a["content"] for tag, a in each.tags if tag == "meta" and a.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none'; img-src 'self' data:; style-src 'sha256-")
    assert "unsafe" not in policy and "connect-src" not in policy
    assert "script-src 'self';" in policy


def test_malformed_images_are_left_out(made, tmp_path, page_of):
    made.retrieval(
        made.point("clip"),
        0.5,
        examples=[row | {"image": b"<svg onload=alert(1)>", "lexicons": "not json"} for row in made.examples("clip")],
    )
    page = page_of(made.store.folder.parent, tmp_path / "site")
    assert "image not kept" in page.text


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
