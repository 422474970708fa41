"""Look inside: images as words, what each model retrieves for a caption, and the largest disagreements, all by rule."""

import hashlib
import math

import pandas as pd

from bench.store.records import EXAMPLES_SCHEMA
from bench.tasks.rank_gap import RANK_GAP, SHOWN, furthest, paired
from reports.pages import Section
from reports.records.evidence import Evidence
from reports.records.rows import parsed
from reports.render import images as pictures
from reports.render.tables import Cell, Column, Table, clean, integer

WORDS_SHOWN, LEXICONS_SHOWN, CASES_SHOWN = 8, 6, 5
NOT_KEPT, NOT_RETRIEVED = "not kept with the records", "not retrieved"


def sections(evidence: Evidence) -> list[Section]:
    made = []
    if shown := images(evidence):
        made.append(Section("words", "Images as words", data={"images": shown}, template="words.html"))
    made += [one for one in (retrieved(evidence), failures(evidence)) if one]
    return made


# --- images as words


def images(evidence: Evidence) -> list[dict]:
    """Images with the words of the reference and of the variant of words, evenly spaced through the test split.

    Without kept words, the relevant images of kept queries, with the lexicons that the caption shares with them.
    """
    shown: dict[str, dict] = {}
    for name in dict.fromkeys((evidence.reading.reference, evidence.reading.words)):
        examples = _words_kept(evidence, name)
        for own in (
            examples[examples.words.notna()].drop_duplicates("image_id").itertuples() if examples is not None else ()
        ):
            words = pictures.words(parsed(own.words))[:WORDS_SHOWN]
            captions = [clean(text) for text in parsed(own.captions) or [] if isinstance(text, str)]
            about = {
                "name": clean(own.image_id),
                "image": pictures.data_uri(own.image),
                "captions": captions,
                "sides": [],
            }
            side = {"variant": name, "words": words, "is_whole": True, "query": clean(own.query)}
            side["rank"] = None if pd.isna(own.rank) else int(own.rank)
            shown.setdefault(own.image_id, about)["sides"].append(side)
    if shown:
        return list(shown.values())[: evidence.reading.examples]
    found = _recall_kept(evidence, evidence.reading.reference)
    if found is None or evidence.kinds.get(evidence.reading.reference) != "lexicon":
        return []
    relevant = found[0][found[0].relevant.astype(bool) & (found[0].chosen != RANK_GAP)]
    for own in relevant.drop_duplicates("image_id").head(evidence.reading.examples).itertuples():
        words = matched(own)[:WORDS_SHOWN]
        side = {"variant": evidence.reading.reference, "words": words, "is_whole": False, "query": "", "rank": None}
        about = {"name": clean(own.image_id), "image": pictures.data_uri(own.image), "captions": [clean(own.query)]}
        shown[own.image_id] = about | {"sides": [side]}
    return list(shown.values())


def matched(item) -> list[dict]:
    """Lexicons that query and image share, strongest share of the score first, with bars as in `pictures.words`."""
    found = sorted(pictures.lexicons(parsed(item.lexicons)), key=lambda one: -one["share"])
    largest, words = found[0]["share"] if found else 1.0, set(clean(item.query).lower().split())
    return [
        {
            "name": one["name"],
            "width": pictures.bar(one["share"], largest),
            "is_said": one["name"].lower() in words,
            "is_shown": None,
        }
        for one in found
    ]


# --- what each model retrieves


def retrieved(evidence: Evidence) -> Section | None:
    """The first images of each model for the queries whose results were kept."""
    r = evidence.reading
    sides = {name: found for name in (r.reference, r.baseline) if (found := _recall_kept(evidence, name)) is not None}
    sides = {name: (found[found.chosen != RANK_GAP], row) for name, (found, row) in sides.items()}
    shared = set.intersection(*(set(found.query_id) for found, _ in sides.values())) if sides else set()
    if not shared:
        return None
    chosen = sorted(shared, key=lambda query: hashlib.sha256(query.encode()).hexdigest())[: r.examples]
    texts = {row.query_id: clean(row.query) for found, _ in sides.values() for row in found.itertuples()}
    queries = [
        {"text": texts[query], "sides": [_side(evidence, name, *sides[name], query) for name in sides]}
        for query in sorted(chosen)
    ]
    data = {"queries": queries, "of": len(shared), "lexicon": [n for n in sides if evidence.kinds.get(n) == "lexicon"]}
    return Section("retrieved", "What each model retrieves", data=data, template="retrieved.html")


def _side(evidence: Evidence, name: str, examples: pd.DataFrame, row, query: str) -> dict:
    mine, queries = examples[examples.query_id == query].sort_values("rank"), evidence.queries(row.point_id)
    first = math.inf
    if queries is not None and "first" in queries:
        first = min(queries[queries.query_id == query]["first"], default=math.inf)
    first = min([first, *mine[mine.relevant.astype(bool)]["rank"].astype(float)])
    shown = [_shown(item) for item in mine.head(evidence.reading.results).itertuples()]
    return {"variant": name, "rank": _rank(first), "images": shown}


def _shown(item) -> dict:
    lexicons = matched(item)
    heat = pictures.heat_maps(parsed(item.heat_maps), {one["name"]: one for one in lexicons})
    about = {"name": clean(item.image_id), "image": pictures.data_uri(item.image), "relevant": bool(item.relevant)}
    about |= {"rank": None if pd.isna(item.rank) else int(item.rank), "heat_maps": heat}
    return about | {"words": lexicons[:LEXICONS_SHOWN], "more": max(0, len(lexicons) - LEXICONS_SHOWN)}


# --- the largest disagreements


def failures(evidence: Evidence) -> Section | None:
    """Queries with the largest rank gap between the two models, in both directions; None without per-query ranks."""
    r = evidence.reading
    names = (r.reference, r.baseline)
    sides = [_ranks(evidence, name) for name in names]
    if None in sides:
        return None
    (ours, our_row), (theirs, their_row) = sides
    both = paired(ours, theirs, our_row.depth, their_row.depth)
    examples = {name: _gap_kept(evidence, name, row.point_id) for name, (_, row) in zip(names, sides, strict=True)}
    texts = {row.query_id: clean(row.query) for found in examples.values() for row in found.itertuples()}
    tables, cases = [], []
    for key, lower, other in (("reference", *names), ("baseline", *reversed(names))):
        worst = furthest(both, lower == r.reference)
        if len(worst):
            caption = f"{lower} ranks the relevant image lower than {other}"
            tables.append(_gap_table(names, f"failures_{key}", caption, worst, texts))
            cases.append({"title": caption, "cases": _cases(worst, examples, texts)[:CASES_SHOWN]})
    hit, other = both["first"] <= 1, both["first_baseline"] <= 1
    counts = {"both": hit & other, "reference": hit & ~other, "baseline": ~hit & other, "neither": ~hit & ~other}
    counts = {name: int(found.sum()) for name, found in counts.items()}
    data = {"directions": cases, "counts": counts, "queries": len(both), "shown": SHOWN, "names": names}
    return Section("failures", "Largest disagreements", (), folded=tables, data=data, template="failures.html")


def _cases(worst: pd.DataFrame, examples: dict[str, pd.DataFrame], texts: dict[str, str]) -> list[dict]:
    """Caption and images of each query that were kept: the relevant image, and the first result of each model."""
    cases = []
    for row in worst.itertuples():
        mine = {
            n: found[(found.chosen == RANK_GAP) & (found.query_id == row.query_id)] for n, found in examples.items()
        }
        relevant = [item for found in mine.values() for item in found.itertuples() if item.relevant]
        first = {n: item for n, found in mine.items() for item in found[found["rank"].eq(1).fillna(False)].itertuples()}
        ranks = [f"{n}: {_rank(rank)}" for n, rank in zip(examples, (row.first, row.first_baseline), strict=True)]
        shown = [{"label": "Relevant image", "ranks": ranks} | _shown(relevant[0])] if relevant else []
        shown += [{"label": f"First result of {name}", "ranks": []} | _shown(item) for name, item in first.items()]
        if shown:
            cases.append({"text": texts.get(row.query_id, ""), "images": shown})
    return cases


def _gap_table(names: tuple[str, str], name: str, caption: str, worst: pd.DataFrame, texts: dict[str, str]) -> Table:
    rank = lambda value: Cell(missing=NOT_RETRIEVED) if math.isinf(value) else Cell(float(value))  # noqa: E731
    rows = [
        {
            "text": Cell(texts[row.query_id]) if row.query_id in texts else Cell(f"query {row.query_id}"),
            "reference": rank(row.first), "baseline": rank(row.first_baseline), "gap": Cell(row.apart),
        }
        for row in worst.itertuples()
    ]  # fmt: skip
    columns = (
        Column("text", "Caption"),
        Column("reference", names[0], integer, "Rank of the relevant image"),
        Column("baseline", names[1], integer, "Rank of the relevant image"),
        Column("gap", "Rank gap", integer),
    )
    return Table(name, caption, columns, rows)


def _rank(first: float) -> str:
    return NOT_RETRIEVED if math.isinf(first) else f"rank {integer(first)}"


# --- results kept with the records


def _kept(evidence: Evidence, point_id: str) -> pd.DataFrame | None:
    examples = evidence.store.examples(point_id)
    if examples is None or not len(examples):
        return None
    return examples.reindex(columns=EXAMPLES_SCHEMA.names).assign(query_id=examples.query_id.astype(str))


def _words_kept(evidence: Evidence, variant: str) -> pd.DataFrame | None:
    rows = evidence.matching(variant, "active_mean", task="sparsity", split="test", top_k=evidence.reading.top_k)
    found = (
        _kept(evidence, point) for point in rows.sort_values(["seed", "started"], ascending=[True, False]).point_id
    )
    return next((one for one in found if one is not None and one.words.notna().any()), None)


def _recall_kept(evidence: Evidence, variant: str) -> tuple[pd.DataFrame, object] | None:
    """Examples at the operating point, of the lowest seed that has any; and the row of the point."""
    rows = evidence.matching(variant, "recall@1", **evidence.retrieval(), **evidence.operating_point(variant))
    rows = rows.sort_values(["seed", "started"], ascending=[True, False])
    return next(((one, row) for row in rows.itertuples() if (one := _kept(evidence, row.point_id)) is not None), None)


def _gap_kept(evidence: Evidence, variant: str, recall_point: str) -> pd.DataFrame:
    """Examples of the newest disagreement point of a recall point; without one, those at the operating point."""
    rows = evidence.rows[(evidence.rows.task == "disagreement") & (evidence.rows.variant == variant)]
    mine = rows.knobs.map(lambda knobs: (parsed(knobs) or {}).get("recall") == recall_point).astype(bool)
    newest = rows[mine & (rows.status == "ok")].drop_duplicates("point_id").sort_values("started", ascending=False)
    found = next((one for point in newest.point_id if (one := _kept(evidence, point)) is not None), None)
    recall = _recall_kept(evidence, variant) if found is None else None
    found = recall[0] if recall else found
    return pd.DataFrame(columns=EXAMPLES_SCHEMA.names) if found is None else found


def _ranks(evidence: Evidence, variant: str) -> tuple[pd.DataFrame, object] | None:
    """First ranks of the lowest seed at the operating point, and the row of the point; None if not kept."""
    for row in evidence.measured(
        variant, "recall@1", **evidence.retrieval(), **evidence.operating_point(variant)
    ).itertuples():
        queries = evidence.queries(row.point_id)
        if queries is not None and "first" in queries:
            return queries.assign(query_id=queries.query_id.astype(str)), row
    return None
