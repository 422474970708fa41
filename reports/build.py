"""Builds the report from records: `lexlip-bench report --home runs` or `python -m reports.build --home runs`.

Writes index.html and the other pages, tables/ (CSV, Markdown, LaTeX), figures/ (PNG, SVG) and the records (data/).
Records of several corpora: index.html names them, and each has pages, tables and figures in a folder of its own.
Tables and figures work without scripts; interactive plots run those in static/. The site works offline.
`nox -s reference` builds the site of the reference run from results/reference/.
"""

if __name__ == "__main__":  # before the imports below, so that Ctrl-C during them ends in one line too
    import sys

    from bench.__main__ import command

    sys.exit(command("report", sys.argv[1:], prog="python -m reports.build"))

from pathlib import Path

from bench.store import cli
from reports.records.evidence import Evidence, Reading


def build(results: Path, out: Path, reading: Reading | None = None) -> Path:
    """Builds the site in `out` from a home, a folder of records or a bundle; returns its first page.

    Raises InputError for a folder without records and for a broken record file; an existing site then stays.
    """
    from threadpoolctl import threadpool_limits

    from reports.pages import site
    from reports.records.bundle import open_records

    with threadpool_limits(limits=1, user_api="blas"):  # the products are thin: more threads only wait for each other
        return site.write(Evidence(open_records(results), reading), Path(out))


def main(arguments) -> None:
    """`lexlip-bench report`"""
    results, out = arguments.results or arguments.home, arguments.out or arguments.home / "site"
    print(build(results, out, Reading(profile=arguments.profile, corpus=arguments.corpus)))


def parser():
    """Flags of `lexlip-bench report`."""
    flags = cli.parser("Builds the report (pages, tables, figures) from records.")
    flags.add_argument("--out", type=Path, help="folder to write; its contents are replaced (default: HOME/site)")
    records = "folder of records instead of HOME/results, such as results/reference"
    flags.add_argument("--results", type=Path, help=records)
    profile = "profile to report of corpora that have several (default: that of the newest record)"
    flags.add_argument("--profile", default="", help=profile)
    corpus = "the only corpus to report, NAME@FINGERPRINT of a name with several data sets (default: each has pages)"
    flags.add_argument("--corpus", default="", help=corpus)
    return flags
