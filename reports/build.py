"""Builds the report from records: `python -m reports.build --home runs`.

Writes index.html and the other pages, tables/*.csv, *.md, *.tex, figures/*.png, *.svg, and the records themselves (data/). Tables and figures need
no script; interactive plots run those that stand beside the pages (static/). Nothing else is loaded. `nox -s reference` builds the site of the
reference run, from results/reference/.
"""

import sys
from pathlib import Path

from threadpoolctl import threadpool_limits

from bench.store import cli
from reports.pages import site
from reports.records.bundle import open_records
from reports.records.evidence import Evidence, Reading


def build(results: Path, out: Path, reading: Reading | None = None) -> Path:
    """Builds the site in `out` from the records in `results` (a home or a folder of records); returns its first page.

    Raises InputError for a folder without records and for a broken record file, which it names; a site already in `out` then stays.
    """
    with threadpool_limits(limits=1, user_api="blas"):  # thin products: more threads only wait for each other
        return site.write(Evidence(open_records(results), reading), Path(out))


def main(arguments) -> None:
    results = arguments.results or arguments.home
    print(
        build(
            results, arguments.out or arguments.home / "site", Reading(profile=arguments.profile, costs=arguments.costs)
        )
    )


def parser():
    flags = cli.parser("Builds the report (pages, tables, figures) from records.")
    flags.add_argument("--out", type=Path, help="folder to write; what stands there is replaced (default: HOME/site)")
    flags.add_argument(
        "--results", type=Path, help="folder of records to read instead of HOME/results, such as results/reference"
    )
    flags.add_argument("--profile", default="", help="profile to report (default: that of the newest record)")
    flags.add_argument(
        "--costs", type=Path, help="prices and machines that the Cost page assumes, as reports/cost.yaml states them"
    )
    return flags


if __name__ == "__main__":
    sys.exit(cli.run(main, parser()))
