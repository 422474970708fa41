"""The tests named in docs/inputs.md exist."""

import re
from pathlib import Path

TESTS = Path(__file__).parent


def test_every_test_in_the_table_of_inputs_exists():
    lines = (TESTS.parent / "docs" / "inputs.md").read_text(encoding="utf-8").splitlines()
    cells = [line.rstrip(" |").rsplit(" | ", 1)[1] for line in lines if line.startswith("| ")][1:]
    assert len(cells) > 30
    for cell in cells:
        folder = TESTS
        for name in re.findall("`([^`]+)`", cell):
            found = TESTS / name if "/" in name else folder / name
            folder = found.parent
            assert found.exists(), name
