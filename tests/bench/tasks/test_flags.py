"""Numbers of flags that no command can use: one line and exit code 2, before anything is read."""

import pytest

from bench.__main__ import main


@pytest.mark.parametrize(
    ("command", "flag", "value"),
    [
        ("recall", "--query-top-k", "0"),
        ("recall", "--threads", "-1"),
        ("query-table", "--learning-seed", "-1"),
        ("block-bounds", "--size", "-5"),
        ("block-bounds", "--count", "0"),
        ("sparsify", "--threads", "0"),
        ("sparsify", "--seed", "-1"),
        ("sparsify", "--seed", "x"),
        ("sparsify", "--export-top-k", "0"),
        ("sparsify", "--min-count", "0"),
    ],
)
def test_a_number_out_of_range_is_named(command, flag, value, capsys):
    with pytest.raises(SystemExit) as ended:
        main([command, f"{flag}={value}"])
    assert ended.value.code == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert flag in said and f"'{value}': expected a whole number" in said
