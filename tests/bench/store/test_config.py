"""Configuration: unknown keys, types and values are checked; files extend files; ids follow content."""

import itertools
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


def test_a_tree_overrides_the_defaults():
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
def test_bad_keys_and_values_are_refused_by_name(tree, expected):
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
        "a: &all [1]\nb: *all",  # nine such lines of ten each would expand to 10^9 values
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
def test_a_file_without_a_plain_mapping_is_refused_by_name(tmp_path, text):
    file = tmp_path / "broken.yaml"
    file.write_text(text)
    with pytest.raises(InputError, match="broken.yaml"):
        config.read_yaml(file)


def test_brackets_far_within_each_other_are_refused():
    """Found by fuzzing: 2,000 of them took seconds, in time that grows with the square of their number."""
    deep = config.DEEPEST * "["
    assert config.parse_yaml(deep + deep.replace("[", "]"), "here") != []
    with pytest.raises(InputError, match="here: not readable as YAML: more than 100 brackets in each other"):
        config.parse_yaml("[" + deep, "here")


def test_an_override_is_a_dotted_key_with_a_yaml_value():
    assert config.parse_override("a.b=[1, x]") == {"a": {"b": [1, "x"]}}
    for bad in ("a", "=3", "a=[1"):
        with pytest.raises(InputError):
            config.parse_override(bad)


CODE = '''"""Doc."""

import math


class Two(dict):
    """Doc."""

    async def f(self, a, *, b=None, **more) -> "str":
        """Doc."""
        match a:
            case {"x": [1, *rest], **other} if rest:
                return f"{a!r:>{b}} and {other}" u"text"
        return [-1 if (n := x) else 2.5 for x in a], {**more, None: ...}


def g(x):
    return x < 22
'''


@pytest.fixture
def fingerprint_of(tmp_path, monkeypatch):
    """The fingerprint of a module with this text."""
    monkeypatch.syspath_prepend(tmp_path)
    numbers = itertools.count()

    def fingerprint_of(text: str) -> str:
        folder = tmp_path / f"package{next(numbers)}"
        folder.mkdir()
        (folder / "some_code.py").write_text(text)
        return config.code_fingerprint(f"{folder.name}.some_code")

    return fingerprint_of


def test_the_fingerprint_of_code_is_the_same_under_every_python_version(fingerprint_of):
    assert fingerprint_of(CODE) == "4dd83de7056eb92c"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""Doc."""', '"""Other\n    text."""'),
        ("import math\n", "import math  # why\n# and so on\n\n"),
        ("x < 22", "(\n        x\n        < 22\n    )"),
        ("[1, *rest]", "[\n                1,\n                *rest,\n            ]"),
        ('u"text"', "'text'"),
    ],
)
def test_comments_docstrings_and_formatting_do_not_change_the_fingerprint(old, new, fingerprint_of):
    assert old in CODE
    assert fingerprint_of(CODE.replace(old, new)) == fingerprint_of(CODE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("22", "23"),
        ("2.5", "2.50001"),
        ("-1", "+1"),
        ("x < 22", "x <= 22"),
        ("b=None", "b"),
        ("b=None", "b=False"),
        ("{a!r:>", "{a!s:>"),
        (" and ", " or "),
        ("**more, None: ...", "None: ..., **more"),
        ("*, b", "b"),
        ("async def", "def"),
        ("g(x)", "h(x)"),
    ],
)
def test_a_change_of_code_changes_the_fingerprint(old, new, fingerprint_of):
    assert old in CODE
    assert fingerprint_of(CODE.replace(old, new)) != fingerprint_of(CODE)


def test_a_changed_file_is_read_again_and_an_unknown_module_is_an_error(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "edited_code.py").write_text("x = 1\n")
    first = config.code_fingerprint("edited_code")
    (tmp_path / "edited_code.py").write_text("x = 11\n")
    assert config.code_fingerprint("edited_code") != first
    with pytest.raises(ModuleNotFoundError, match="no module models.nowhere"):
        config.code_fingerprint("models.nowhere")


def test_equal_content_has_one_fingerprint():
    assert (
        config.fingerprint({"a": 1, "b": 2})
        == config.fingerprint({"b": 2, "a": 1})
        != config.fingerprint({"a": 1, "b": 3})
    )
    assert config.fingerprint(Outer()) == config.fingerprint(config.as_tree(Outer()))
