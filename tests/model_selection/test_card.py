"""The model card, its pictures, and the command line around them."""

import re

import numpy as np
import pytest
from ase.io import write

import gapkit
from gapkit import model_selection
from gapkit.cli import main
from gapkit.cli.fit import budget
from gapkit.exceptions import SettingsError
from gapkit.model_selection import LearningCurve
from gapkit.plotting import cross_validation_figure, error_curve_figure


def test_the_card_says_what_the_model_file_knows(gap, model_file):
    text = model_selection.model_card(gapkit.load(model_file))
    m = gap.potential_.metadata
    assert text.startswith("# gapkit potential for Cu")
    assert m["training_hash"] in text
    assert "| bulk | 9 |" in text and "| cluster | 3 |" in text
    assert f"{gap.potential_.posterior.signal[1]:.3g}" in text
    low, high = m["domain"]["nearest_neighbour"]
    assert f"{low:.3f} to {high:.3f} A" in text
    assert "held out error" in text and "log evidence per label" in text
    n, energy, force = m["levels"]["sparse_curve"][-1]
    assert f"| {n} | {1e3 * energy:.4g} | {force:.4g} |" in text
    assert "Errors on frames" not in text


def test_domain_is_that_of_the_frames(gap, train):
    domain = gap.potential_.metadata["domain"]
    bulk = [a for a in train if a.pbc.all()]
    assert domain["density"][0] == pytest.approx(min(len(a) / a.get_volume() for a in bulk))
    nearest = []
    for a in train:
        d = a.get_all_distances(mic=False)
        nearest.append(d[~np.eye(len(a), dtype=bool)].min() if not a.pbc.any() else None)
    assert domain["nearest_neighbour"][0] <= min(d for d in nearest if d is not None) + 1e-12
    assert domain["n_atoms"] == [min(map(len, train)), max(map(len, train))]


def test_level_errors_are_positive_and_finite(gap):
    summary = gap.potential_.metadata["levels"]
    errors = [*summary["noise_errors"].values(), *summary["signal_errors"].values()]
    assert len(errors) == len(gap.potential_.metadata["noise"]) + 2
    assert all(0 < e < 20 for e in errors)


def test_the_curve_of_the_card_is_the_curve_of_the_triangles(gap):
    n, energy, force = gap.potential_.metadata["levels"]["sparse_curve"][-1]
    curve = model_selection.sparse_curve(gap, [n])
    assert curve.size[0] == n
    assert curve.force[0] == pytest.approx(force, rel=1e-6)
    assert curve.energy[0] == pytest.approx(1e3 * energy, rel=1e-6)


def test_html_holds_tables_and_pictures(gap, held_out, tmp_path):
    path = tmp_path / "card.html"
    model_selection.write_card(gap, path, gap.evaluate(held_out))
    text = path.read_text()
    assert text.startswith("<!doctype html>") and text.rstrip().endswith("</html>")
    assert len(re.findall(r'src="data:image/png;base64,iVBOR', text)) == 2
    assert "Errors on frames that were not fitted to" in text
    assert text.count("<table>") == text.count("</table>") >= 5


def test_other_endings_are_refused(gap, tmp_path):
    with pytest.raises(SettingsError, match=r"\.md or \.html"):
        model_selection.write_card(gap, tmp_path / "card.pdf")
    with pytest.raises(SettingsError, match="markdown"):
        model_selection.model_card(gap, form="pdf")


def test_pictures_of_curves_and_groups(tmp_path):
    curve = LearningCurve(np.array([4, 8]), np.array([np.nan, np.nan]), np.array([0.2, 0.1]))
    error_curve_figure(curve.size, curve.energy, curve.force, curve.abscissa, tmp_path / "curve.png")
    cross_validation_figure(["a", "b"], np.array([1.0, np.nan]), np.array([0.1, 0.2]), tmp_path / "groups.png")
    for name in ("curve.png", "groups.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_budget_of_the_command_line():
    assert [budget(t) for t in ("90s", "10m", "2h", "3")] == pytest.approx([1.5, 10, 120, 3])
    for wrong in ("", "m", "-1m", "soon", "nan"):
        with pytest.raises(SettingsError, match="--tune takes a time"):
            budget(wrong)


@pytest.fixture
def files(tmp_path, train, held_out):
    write(tmp_path / "train.xyz", train)
    write(tmp_path / "test.xyz", held_out)
    return tmp_path


def test_info_writes_a_card(files, model_file, capsys):
    card = files / "card.md"
    assert main(["info", str(model_file), "--card", str(card), "--data", str(files / "test.xyz")]) == 0
    assert "Errors on frames that were not fitted to" in card.read_text()
    assert main(["info", str(model_file), "--data", str(files / "test.xyz")]) == 2
    assert "--card" in capsys.readouterr().err


def test_fast_fit(files, capsys):
    model = files / "fast.gapkit"
    assert main(["fit", str(files / "train.xyz"), "-o", str(model), "--fast", "--quiet"]) == 0
    assert gapkit.load(model).terms[1].descriptor.n_max == 6
    with pytest.raises(SystemExit):
        main(["fit", str(files / "train.xyz"), "-o", str(model), "--fast", "--tune", "1m"])
    assert "not allowed with" in capsys.readouterr().err


def test_tune_writes_a_model_and_a_record(files, monkeypatch, capsys):
    import gapkit.model_selection.tuning as tuning

    monkeypatch.setattr(tuning, "CUTOFFS", (1.0,))
    monkeypatch.setattr(tuning, "WIDTHS", (0.5,))
    monkeypatch.setattr(tuning, "POWERS", (4, 2))
    monkeypatch.setattr(tuning, "RESOLUTIONS", ((4, 3),))
    model = files / "tuned.gapkit"
    command = ["fit", str(files / "train.xyz"), "-o", str(model), "--tune", "1m"]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "best: " in out and "round 1" in out
    assert (files / "tuned.gapkit.tune.json").is_file()
    assert gapkit.load(model).potential_.metadata["n_frames"] == 12
    assert main([*command[:-1], "forever"]) == 2
