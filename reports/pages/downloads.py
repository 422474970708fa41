"""Downloads of the records, and how to cite. The site writes the files (`write`); the section lists them."""

import zipfile
from importlib import metadata
from pathlib import Path

from reports.pages import Section
from reports.records import bundle
from reports.records.evidence import Evidence

FOLDER = "data"
LARGEST = 3_000_000  # bytes of a sidecar: a site must stay small enough to send
WHAT = {
    "records.csv.zip": "every record, as CSV",
    "records.parquet": "every record, as Parquet",
    "queries.parquet": "ranks and latencies of each query",
    "examples.parquet": "example results with their images",
}
SHORT = 10  # digits of a commit
EPOCH = (1980, 1, 1, 0, 0, 0)  # date inside the archive, fixed so that equal records give equal bytes


def section(evidence: Evidence) -> Section:
    rows = evidence.all
    data = {
        "rows": len(rows),
        "points": rows.point_id.nunique(),
        "machines": rows[rows.machine_id != ""].machine_id.nunique(),
        "version": metadata.version("lexlip-bench"),
        "commits": sorted({commit[:SHORT] for commit in evidence.rows.git_commit if commit}),
        "year": max((started[:4] for started in evidence.rows.started if started), default=""),
    }
    return Section("downloads", "Downloads, and how to cite", data=data, template="downloads.html")


def write(evidence: Evidence, folder: Path) -> list[dict]:
    """Writes the records to `folder` as a bundle, from which the report can be rebuilt; returns name, words and bytes.

    A sidecar larger than `LARGEST` is left out; its entry then has an empty name.
    """
    if evidence.all.empty:
        return []
    bundle.write([evidence.store], folder)
    with zipfile.ZipFile(folder / "records.csv.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(
            zipfile.ZipInfo("records.csv", EPOCH),
            bundle.Bundle(folder).read().to_csv(index=False),
            zipfile.ZIP_DEFLATED,
        )
    found = []
    for name, words in WHAT.items():
        file = folder / name
        if not file.exists():
            continue
        size = file.stat().st_size
        included = name.startswith("records") or size <= LARGEST
        if not included:
            file.unlink()
        found.append({"name": f"{FOLDER}/{name}" if included else "", "words": words, "bytes": size})
    return found
