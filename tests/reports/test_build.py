"""The command that builds the site."""

from reports import build as command


def test_command(made, tmp_path, capsys):
    made.training("lexlip", 0, 0.4)
    home, out = made.store.folder.parent, tmp_path / "out"
    flags = ["--home", str(home), "--out", str(out)]
    assert command.cli.run(command.main, command.parser(), flags) == 0
    assert capsys.readouterr().out.strip() == str(out / "index.html")
    before = (out / "index.html").read_bytes()
    broken = next(iter(made.store.folder.glob("*.parquet")))
    broken.write_bytes(broken.read_bytes()[:100])
    assert command.cli.run(command.main, command.parser(), flags) == 2
    assert broken.name in capsys.readouterr().err
    assert (out / "index.html").read_bytes() == before


def test_figures_are_pictures(site):
    for name in ("answer", "explore_1", "forest", "learning", "words"):
        assert (site / "figures" / f"{name}.svg").read_text(encoding="utf-8").startswith("<svg xmlns=")
