"""Configuration: unknown keys name the nearest, types are checked, files extend files, ids follow content."""

from dataclasses import dataclass, field

import pytest

from bench.store import config
from models.errors import InputError


@dataclass(frozen=True)
class Inner:
    rate: float = 0.1


@dataclass(frozen=True)
class Outer:
    inner: Inner = field(default_factory=Inner)
    name: str = "a"


def test_a_tree_is_laid_over_the_defaults():
    assert config.build(Outer, {"inner": {"rate": 3}}, "here") == Outer(Inner(3.0), "a")


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        ({"nmae": "b"}, "unknown key nmae (nearest: name; known: inner, name)"),
        ({"inner": {"rat": 1}}, "unknown key inner.rat (nearest: rate; known: rate)"),
        ({"inner": {"rate": "fast"}}, "inner.rate: "),
        ({"inner": 3}, "inner"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(tree, expected):
    with pytest.raises(InputError, match="^here: ") as caught:
        config.build(Outer, tree, "here")
    assert expected in str(caught.value)


def test_a_file_extends_another_and_wins(tmp_path):
    (tmp_path / "base.yaml").write_text("inner: {rate: 1}\nname: base")
    (tmp_path / "own.yaml").write_text("extends: [base.yaml]\nname: own")
    assert config.read_yaml(tmp_path / "own.yaml") == {"inner": {"rate": 1}, "name": "own"}


@pytest.mark.parametrize(
    "text",
    [
        "a: [1",
        "- a list",
        "0",
        "!!python/object/apply:os.getcwd []",
        "a: &all [1]\nb: *all",  # nine such lines of ten each would be a thousand million values
        "a: &all {b: *all}",
        "a: 2026-02-30",
        "a: !!timestamp never",
        "a: !!int ''",
        'a: "\\ud800"',
        "a: " + "[" * 5000,
        "extends: own.yaml",
        "extends: [1]",
        "extends: [broken.yaml]",
        'extends: ["\\0"]',
    ],
)
def test_a_file_that_is_no_mapping_is_refused_by_name(tmp_path, text):
    file = tmp_path / "broken.yaml"
    file.write_text(text)
    with pytest.raises(InputError, match="broken.yaml"):
        config.read_yaml(file)


def test_an_override_is_a_dotted_key_with_a_yaml_value():
    assert config.parse_override("a.b=[1, x]") == {"a": {"b": [1, "x"]}}
    for bad in ("a", "=3", "a=[1"):
        with pytest.raises(InputError):
            config.parse_override(bad)


def test_the_fingerprint_of_code_ignores_docstrings_and_comments_only(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "some_code.py").write_text('"""Doc."""\ndef f():\n    """Doc."""\n    return 1  # one\n')
    first = config.code_fingerprint("some_code")
    (tmp_path / "some_code.py").write_text('"""Other."""\n\ndef f():\n    return 1\n')
    assert config.code_fingerprint("some_code") == first
    (tmp_path / "some_code.py").write_text('"""Doc."""\ndef f():\n    """Doc."""\n    return 22  # one\n')
    assert config.code_fingerprint("some_code") != first


def test_equal_content_has_one_fingerprint():
    assert (
        config.fingerprint({"a": 1, "b": 2})
        == config.fingerprint({"b": 2, "a": 1})
        != config.fingerprint({"a": 1, "b": 3})
    )
    assert config.fingerprint(Outer()) == config.fingerprint(config.as_tree(Outer()))
