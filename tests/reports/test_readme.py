"""The README says what the committed records say."""

import shutil

import pytest

from models.errors import InputError
from reports import readme

REFERENCE = readme.ROOT / "results" / "reference"


def test_the_readme_is_what_the_reference_records_make_of_it(tmp_path):
    for name in ("reference", "README.md"):
        source = REFERENCE if name == "reference" else readme.ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    readme.write(tmp_path / "reference", tmp_path / "README.md")
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == (readme.ROOT / "README.md").read_text(
        encoding="utf-8"
    )
    assert (tmp_path / "reference" / "efficiency.png").stat().st_size > 10_000


def test_a_readme_without_the_marks_is_refused(tmp_path):
    (tmp_path / "README.md").write_text("# nothing to fill in")
    with pytest.raises(InputError, match="README.md"):
        readme.write(REFERENCE, tmp_path / "README.md")
