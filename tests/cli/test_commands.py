"""The command line: every command does what its Python counterpart does; warnings and errors are one line each."""

import json
import subprocess
import sys

import ase.io
import numpy as np
import pytest
from ase import Atoms

import gapkit
from gapkit import datasets
from gapkit.cli import main
from gapkit.exceptions import DataError
from gapkit.fitting import stages
from gapkit.structures.labels import labelled_frames
from tests.conftest import small_gap

CONFIG = """
folds = 3
random_state = 0
[[terms]]
name = "pair"
r_cut = 4.0
length_scale = 0.7
n_sparse = 10
[[terms]]
name = "soap"
r_cut = 4.0
n_max = 4
l_max = 3
zeta = 3
n_sparse = 20
"""


@pytest.fixture
def files(tmp_path, train, held_out):
    """A folder with training frames (in two files), test frames and the configuration of ``small_gap``."""
    ase.io.write(tmp_path / "a.xyz", train[:10], format="extxyz")
    ase.io.write(tmp_path / "b.xyz", train[10:], format="extxyz")
    ase.io.write(tmp_path / "test.xyz", held_out, format="extxyz")
    (tmp_path / "c.toml").write_text(CONFIG)
    return tmp_path


def run(*arguments):
    assert main([str(a) for a in arguments]) == 0


def read(path):
    return ase.io.read(path, ":")


def test_fit_equals_the_python_fit(files, held_out, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    run("fit", files / "a.xyz", files / "b.xyz", "-o", files / "m.gapkit", "--config", files / "c.toml",
        "--test", files / "test.xyz")  # fmt: skip
    captured = capsys.readouterr()
    frames = read(files / "a.xyz") + read(files / "b.xyz")
    reference = small_gap().fit(frames)
    loaded = gapkit.load(files / "m.gapkit")
    np.testing.assert_allclose(loaded.predict(held_out).energy, reference.predict(held_out).energy, atol=1e-10)
    assert str(reference.evaluate(read(files / "test.xyz"))) in captured.out
    assert f"model written to {files / 'm.gapkit'}" in captured.out
    assert "291 labels of 12 frames" in captured.out  # the line before the work: labels, sparse points, memory, time
    assert "30 sparse points" in captured.out
    assert "held-out RMSE" in captured.out
    assert "covariances" in captured.err  # progress


def test_fit_goes_on_from_its_checkpoint(files, monkeypatch, capsys):
    command = ["fit", files / "a.xyz", "-o", files / "m.gapkit", "--config", files / "c.toml", "--quiet"]
    command += ["--checkpoint", files / "fit.npz"]
    run(*command)
    first = gapkit.load(files / "m.gapkit").potential_
    monkeypatch.setattr(stages, "choose_levels", None)
    run(*command)
    assert np.array_equal(gapkit.load(files / "m.gapkit").potential_.alpha, first.alpha)
    command[1] = files / "b.xyz"
    assert main([str(a) for a in command]) == 2
    message = capsys.readouterr().err
    assert "fit.npz: checkpoint of another run, which differs in frames, labels; remove the file" in message
    assert message.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--memory", "0.1"], "more than memory= allows (0.1 GB); use fewer sparse points"),
        (["--memory", "-1"], "memory must be a positive number (GB)"),
        (["--tune", "1s", "--checkpoint", "fit.npz"], "--tune keeps its own trials"),
        (["--checkpoint", "m.gapkit"], "--checkpoint and --output are both"),
        (["--checkpoint", "none/fit.npz"], "the folder"),
    ],
)
def test_fit_refuses_with_one_line(files, monkeypatch, capsys, options, message):
    monkeypatch.chdir(files)
    config = [] if "--tune" in options else ["--config", "c.toml"]
    assert main(["fit", "a.xyz", "-o", "m.gapkit", "--quiet", *config, *options]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not (files / "m.gapkit").exists()


def test_fit_in_quiet_mode_says_only_where_the_model_is(files, capsys):
    run("fit", files / "a.xyz", "-o", files / "m.gapkit", "--config", files / "c.toml", "--quiet", "--updatable")
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out == f"model written to {files / 'm.gapkit'}\n"
    updated = gapkit.load(files / "m.gapkit").update(read(files / "b.xyz"))
    assert updated.potential_.metadata["n_frames"] == 12


def test_evaluate(files, model_file, gap, capsys):
    picture, numbers = files / "p.png", files / "r.json"
    run("evaluate", model_file, files / "test.xyz", "--json", numbers, "--plot", picture, "--quiet")
    captured = capsys.readouterr()
    report = gap.evaluate(read(files / "test.xyz"))
    assert json.loads(numbers.read_text()) == json.loads(report.to_json())
    assert str(report) in captured.out
    assert captured.err == ""
    image = picture.read_bytes()
    assert image.startswith(b"\x89PNG")
    assert len(image) > 10_000
    assert f"written: {picture}" in captured.out
    assert sorted(p.name for p in files.iterdir()) == ["a.xyz", "b.xyz", "c.toml", "p.png", "r.json", "test.xyz"]


@pytest.mark.parametrize("ending", ["png", "pdf", "svg"])
@pytest.mark.parametrize("labels", ["all", "energy", "forces"])
def test_pictures_of_what_there_is(model_file, held_out, tmp_path, capsys, ending, labels):
    frames = []
    for atoms in held_out:
        frames.append(atoms.copy())
        if labels != "forces":
            frames[-1].info["energy"] = atoms.get_potential_energy()
        if labels != "energy":
            frames[-1].arrays["forces"] = atoms.get_forces()
    ase.io.write(tmp_path / "d.xyz", frames, format="extxyz")
    for more in ([], ["--no-uncertainty"]):
        picture = tmp_path / f"p.{ending}"
        run("evaluate", model_file, tmp_path / "d.xyz", "--plot", picture, "--quiet", *more)
        assert picture.stat().st_size > 1000
        picture.unlink()
    assert capsys.readouterr().err == ""


def test_evaluate_without_virials_gives_null(model_file, held_out, tmp_path, capsys):
    ase.io.write(tmp_path / "d.xyz", [a for a in held_out if not a.pbc.any()], format="extxyz")
    run("evaluate", model_file, tmp_path / "d.xyz", "--json", tmp_path / "r.json", "--no-uncertainty", "--quiet")
    table = json.loads((tmp_path / "r.json").read_text())
    assert table["virial_rmse_mev_per_atom"] is None
    assert table["energy_z_std"] is None
    assert list(table["config_types"]) == ["cluster"]
    assert table["force_rmse_ev_per_ang"] > 0


def test_predict_writes_what_ase_reads(files, model_file, gap, capsys):
    out = files / "out.xyz"
    frames = read(files / "test.xyz")
    frames[0].info.update(note="kept")
    ase.io.write(files / "in.xyz", frames, format="extxyz")
    run("predict", model_file, files / "in.xyz", "-o", out, "--uncertainty")
    assert capsys.readouterr().err == ""
    p = gap.predict(read(files / "in.xyz"), uncertainty=True)
    written = read(out)
    assert len(written) == 6
    for n, atoms in enumerate(written):
        assert atoms.get_potential_energy() == pytest.approx(p.energy[n], abs=1e-7)
        np.testing.assert_allclose(atoms.get_forces(), p.forces[n], atol=1e-7)
        np.testing.assert_allclose(atoms.arrays["local_energy"], p.local_energy[n], atol=1e-7)
        np.testing.assert_allclose(atoms.arrays["forces_std"], p.forces_std[n], atol=1e-7)
        np.testing.assert_allclose(atoms.arrays["local_energy_std"], p.local_energy_std[n], atol=1e-7)
        assert atoms.info["energy_std"] == pytest.approx(p.energy_std[n], abs=1e-7)
        if atoms.pbc.any():
            np.testing.assert_allclose(atoms.get_stress(), p.stress[n], atol=1e-7)
            np.testing.assert_allclose(atoms.info["stress_std"], p.stress_std[n], atol=1e-7)
        assert atoms.info["config_type"] == frames[n].info["config_type"]
    assert written[0].info["note"] == "kept"
    # what was written serves as labels again, without errors
    assert gap.evaluate(written).summary["force_rmse_ev_per_ang"] < 1e-7


def test_predict_leaves_no_label_of_what_it_read(model_file, held_out, tmp_path, gap):
    """A virial of 7 eV in the input would be taken for the prediction's by whoever reads labels from the output."""
    labelled = held_out[0].copy()
    labelled.info["virial"] = np.full((3, 3), 7.0)
    ase.io.write(tmp_path / "in.xyz", labelled, format="extxyz")
    assert read(tmp_path / "in.xyz")[0].info["virial"][0, 0] == 7.0
    run("predict", model_file, tmp_path / "in.xyz", "-o", tmp_path / "out.xyz")
    (found,) = labelled_frames(read(tmp_path / "out.xyz"))
    np.testing.assert_allclose(found.virial, -labelled.get_volume() * gap.predict([labelled]).stress[0], atol=1e-6)


def test_predict_needs_no_labels_and_gives_no_std_unasked(model_file, tmp_path, gap):
    ase.io.write(tmp_path / "in.xyz", [Atoms("Cu2", positions=[[0, 0, 0], [2.4, 0, 0]])], format="extxyz")
    run("predict", model_file, tmp_path / "in.xyz", "-o", tmp_path / "out.xyz")
    (atoms,) = read(tmp_path / "out.xyz")
    assert atoms.get_potential_energy() == pytest.approx(gap.predict([atoms]).energy[0], abs=1e-7)
    assert not any("std" in k for k in (*atoms.info, *atoms.arrays))


def test_info(model_file, gap, capsys):
    run("info", model_file)
    out = capsys.readouterr().out
    assert out.strip() == gap.describe()
    for part in (
        "potential for Cu, cutoff 4.0 A, 30 sparse points",
        "12 frames, 75 atoms",
        "n_max 4",
        "e0 of Cu",
        "forces",
    ):
        assert part in out


@pytest.mark.parametrize("ensemble", ["nve", "nvt"])
def test_md(files, model_file, gap, capsys, ensemble):
    out = files / "t.xyz"
    run("md", model_file, files / "a.xyz", "-o", out, "--steps", 15, "--temperature", 100, "--timestep", 0.5,
        "--ensemble", ensemble, "--seed", 4)  # fmt: skip
    captured = capsys.readouterr()
    assert ("drift of the total energy" in captured.out) == (ensemble == "nve")
    assert "mean temperature" in captured.out
    frames = read(out)
    assert len(frames) == 3
    start = read(files / "a.xyz")[-1]
    np.testing.assert_allclose(frames[0].positions, start.positions, atol=1e-7)
    assert np.abs(frames[-1].positions - start.positions).max() > 1e-3
    p = gap.predict(frames)
    np.testing.assert_allclose([a.get_potential_energy() for a in frames], p.energy, atol=1e-6)
    run("md", model_file, files / "a.xyz", "-o", files / "again.xyz", "--steps", 15, "--temperature", 100,
        "--timestep", 0.5, "--ensemble", ensemble, "--seed", 4)  # fmt: skip
    np.testing.assert_array_equal(read(files / "again.xyz")[-1].positions, frames[-1].positions)


def test_md_out_of_domain_warns_on_one_line(model_file, tmp_path, capsys):
    ase.io.write(tmp_path / "s.xyz", Atoms("Cu3", positions=[[0, 0, 0], [1.1, 0, 0], [0, 1.2, 0.3]]), format="extxyz")
    run("md", model_file, tmp_path / "s.xyz", "--steps", 3, "--timestep", 0.01)
    said = [line for line in capsys.readouterr().err.replace("\r", "\n").split("\n") if "warning" in line]
    assert len(said) == 1
    assert said[0].startswith("gapkit: warning: this frame is out of the domain")
    assert "atom " in said[0]


def test_main_leaves_the_warnings_machinery_as_it_was(model_file, capsys):
    import warnings

    before = warnings.showwarning, list(warnings.filters)
    run("info", model_file)
    assert (warnings.showwarning, warnings.filters) == before


def test_version_and_help(capsys):
    run("--version")
    assert capsys.readouterr().out.startswith("gapkit ")
    run()
    out = capsys.readouterr().out
    for command in ("quickstart", "fit", "evaluate", "predict", "info", "md"):
        assert command in out
        with pytest.raises(SystemExit) as exit_:
            main([command, "--help"])
        assert exit_.value.code == 0


def test_an_interruption_is_one_line(files, monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(gapkit.GAP, "fit", interrupted)
    assert main(["fit", str(files / "a.xyz"), "-o", str(files / "m.gapkit"), "--quiet"]) == 130
    assert capsys.readouterr().err == "gapkit: error: interrupted\n"


def test_too_little_memory_is_one_line(files, monkeypatch, capsys):
    def too_much(*_, **__):
        raise MemoryError

    monkeypatch.setattr(gapkit.GAP, "fit", too_much)
    assert main(["fit", str(files / "a.xyz"), "-o", str(files / "m.gapkit"), "--quiet"]) == 2
    assert capsys.readouterr().err.startswith("gapkit: error: not enough memory")


# ---- as a program


def program(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "gapkit", *map(str, arguments)], capture_output=True, text=True, timeout=300, **options
    )


def test_the_program_fits_and_evaluates(files):
    fitted = program("fit", files / "a.xyz", "-o", files / "m.gapkit", "--config", files / "c.toml", "--quiet")
    assert (fitted.returncode, fitted.stderr) == (0, "")
    judged = program("evaluate", files / "m.gapkit", files / "test.xyz", "--json", files / "r.json", "--quiet")
    assert (judged.returncode, judged.stderr) == (0, "")
    assert json.loads((files / "r.json").read_text())["n_frames"] == 6


def test_the_program_refuses_on_one_line_with_code_two(files):
    """Not quiet: the frame is refused before any progress is shown."""
    frames = read(files / "a.xyz")
    frames[2].positions[1] = frames[2].positions[0]
    ase.io.write(files / "bad.xyz", frames, format="extxyz")
    refused = program("fit", files / "bad.xyz", "-o", files / "m.gapkit", "--config", files / "c.toml")
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert refused.stderr.startswith(f"gapkit: error: {files / 'bad.xyz'}: frame 2: atoms ")
    assert refused.stdout == ""
    assert not (files / "m.gapkit").exists()


def test_a_closed_pipe_is_no_traceback(model_file):
    shell = f"{sys.executable} -m gapkit info {model_file} | true"
    ended = subprocess.run(["bash", "-c", f"set -o pipefail; {shell}"], capture_output=True, text=True, timeout=300)
    assert "Traceback" not in ended.stderr


# ---- quickstart


def silicon(split):
    try:
        return datasets.load_silicon(split=split)
    except DataError:
        return []


@pytest.mark.slow
def test_quickstart(tmp_path, capsys, monkeypatch):
    if not (silicon("train") and silicon("test")):
        pytest.skip("this checkout has no bundled silicon frames yet")
    # the terms of the default fit, smaller, so that the test takes seconds
    monkeypatch.setattr("gapkit.fitting.default_terms.MOST_SPARSE", 60)
    run("quickstart", "-o", tmp_path / "new" / "q", "--steps", 5)
    out = capsys.readouterr().out
    for part in ("held-out frames", "E RMSE", "total energy drifts by", "silicon.gapkit", "silicon.png"):
        assert part in out
    assert (tmp_path / "new" / "q" / "silicon.png").read_bytes().startswith(b"\x89PNG")
    assert gapkit.load(tmp_path / "new" / "q" / "silicon.gapkit").potential_.species == (14,)


def test_quickstart_refuses_before_any_work(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(datasets, "load_silicon", lambda split: [])
    (tmp_path / "file").write_text("here")
    for more in (["-o", tmp_path / "file"], ["-o", tmp_path / "file" / "q"], ["-o", tmp_path / "q", "--steps", "0"]):
        assert main(["quickstart", *map(str, more)]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file"]
