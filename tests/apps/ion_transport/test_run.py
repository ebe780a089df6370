"""The question as a whole: trajectories and dynamics to conductivity, with bounds, draws of the potential, pictures."""

from __future__ import annotations

import json

import ase
import numpy as np
import pytest
from ase.io import write
from ase.units import kB

import gapkit
from gapkit.apps.ion_transport.barrier_profile import PeriodicBarrier
from gapkit.apps.ion_transport.conductivity import nernst_einstein_factor
from gapkit.apps.ion_transport.pictures import profile_figure, transport_figure
from gapkit.apps.ion_transport.run import TransportSettings, run_transport
from gapkit.apps.ion_transport.silver_iodide import SilverIodide, alpha_silver_iodide
from gapkit.apps.ion_transport.toys import brownian_ions, caged_ions
from gapkit.cli.main import main
from gapkit.exceptions import DataError, GapkitWarning, SettingsError
from gapkit.sampling import run_md

BROWNIAN = TransportSettings(species="Li", reference="none")
SILVER = TransportSettings(
    species="Ag", charge=0.5815, temperatures=(600.0, 900.0), timestep=4.0, steps=1000, equilibration=100,
    disordering=900.0, record_every=10, n_replicas=2,
)  # fmt: skip


def diffusion_constant(temperature: float) -> float:
    """Diffusion constant (A^2/fs) of toy ions with an activation energy of 0.2 eV."""
    return 0.05 * np.exp(-0.2 / (kB * temperature))


def walks(temperatures=(500.0, 600.0, 750.0)):
    return {t: brownian_ions(diffusion_constant(t), n_ions=20, frames=500, random_state=int(t)) for t in temperatures}


def test_trajectories_give_activation_energy_and_conductivity():
    found = run_transport(walks(), settings=BROWNIAN)
    assert found.settings.temperatures == (500.0, 600.0, 750.0)
    assert abs(found.activation_energy - 0.2) < 4 * found.activation_energy_std
    assert abs(found.conductivity_line.activation_energy - 0.2) < 4 * found.conductivity_line.activation_energy_std
    for t, d, s in zip(found.temperatures, found.diffusion, found.conductivity, strict=True):
        exact = nernst_einstein_factor(20, 1.0, 8000.0, t) * diffusion_constant(t)
        assert abs(s.nernst_einstein - exact) < 4 * s.nernst_einstein_std
        assert s.collective == pytest.approx(s.nernst_einstein / d.haven)
    text = str(found)
    assert "Haven ratio" in text and "activation energy 0." in text
    table = found.to_dict()
    assert json.loads(json.dumps(table))["temperatures"][2]["temperature"] == 750.0


def test_frozen_ions_have_bounds_and_no_activation_energy():
    frozen = {t: caged_ions(frames=400, amplitude=0.1, random_state=0) for t in (300.0, 400.0)}
    found = run_transport(frozen, settings=BROWNIAN)
    assert found.tracer_line is None and found.conductivity_line is None
    assert np.isnan(found.activation_energy)
    assert found.conductivity[0].collective_upper > 0
    assert "no activation energy" in str(found) and "below" in str(found)
    with pytest.warns(GapkitWarning, match="300 K"):
        some = run_transport({300.0: frozen[300.0], **walks()}, settings=BROWNIAN)
    assert np.isfinite(some.activation_energy)


def test_dynamics_of_silver_iodide_conducts_by_silver_alone():
    start = alpha_silver_iodide(3, random_state=0)
    start.calc = SilverIodide()
    found = run_transport(start, settings=SILVER, random_state=1)
    for d in found.diffusion:
        assert d.n_ions == 54 and d.hops > 50
        assert 5e-6 < d.tracer.cm2_per_s < 2e-4
    assert found.diffusion[1].tracer.value > found.diffusion[0].tracer.value
    again = run_transport(start, SilverIodide(), SILVER, random_state=1)
    assert again.diffusion[0].tracer.value == found.diffusion[0].tracer.value
    other = run_transport(start, SilverIodide(), SILVER, random_state=2)
    assert other.diffusion[0].tracer.value != found.diffusion[0].tracer.value


@pytest.mark.slow
def test_draws_of_the_potential_give_its_part_of_the_error():
    start = alpha_silver_iodide(3, random_state=0)
    draws = [SilverIodide(damping=d) for d in (0.1, 0.25, 0.4, 0.5)]
    found = run_transport(start, SilverIodide(), SILVER, posterior=draws, random_state=1)
    line = found.tracer_line
    assert found.log_draws.shape == (4, 2)
    assert line.potential_std > 0
    assert line.activation_energy_std == pytest.approx(np.hypot(line.statistical_std, line.potential_std))


def test_questions_that_cannot_be_asked_are_refused():
    start = alpha_silver_iodide(3, random_state=0)
    with pytest.raises(SettingsError, match="no calculator"):
        run_transport(start, settings=SILVER)
    with pytest.raises(DataError, match="species 'Li'"):
        run_transport(start, SilverIodide(), TransportSettings(steps=10**9, record_every=10**7))
    with pytest.raises(DataError, match="record more"):
        run_transport(start, SilverIodide(), TransportSettings(species="Ag", steps=10**9, record_every=10**8))
    with pytest.raises(SettingsError, match="at least three"):
        run_transport(start, SilverIodide(), SILVER, posterior=[SilverIodide()])
    with pytest.raises(SettingsError, match="draws"):
        run_transport(walks(), settings=BROWNIAN, posterior=[1, 2, 3])
    with pytest.raises(DataError, match="no trajectories"):
        run_transport({}, settings=BROWNIAN)
    for wrong in (
        {"temperatures": ()}, {"temperatures": (1.0, 1.0)}, {"charge": 0.0}, {"disordering": -1.0},
        {"n_replicas": 0}, {"steps": 0}, {"timestep": 0.0},
    ):  # fmt: skip
        with pytest.raises(SettingsError, match=next(iter(wrong))):
            TransportSettings(**wrong)


def test_pictures_are_drawn_with_and_without_hops(tmp_path):
    found = run_transport(walks(), settings=BROWNIAN)
    transport_figure(found, tmp_path / "transport.png")
    frozen = run_transport({300.0: caged_ions(frames=400, random_state=0)}, settings=BROWNIAN)
    transport_figure(frozen, tmp_path / "frozen.png")
    s = np.arange(9) / 9
    model = PeriodicBarrier().fit(s, 0.2 * np.cos(2 * np.pi * s))
    profile_figure(model, model.barrier(random_state=0), tmp_path / "profile.png", (s, 0.2 * np.cos(2 * np.pi * s)))
    for name in ("transport", "frozen", "profile"):
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000


def test_the_command_reads_trajectories(tmp_path, capsys):
    paths = []
    for t, walk in walks().items():
        paths.append(str(tmp_path / f"{t:g}.xyz"))
        frames = [ase.Atoms("Li20", x, cell=walk.cell, pbc=True) for x in walk.positions[0]]
        for frame in frames:
            frame.wrap()
        write(paths[-1], frames)
    common = ["transport", *paths, "--species", "Li", "--reference", "none"]
    target = tmp_path / "out.json"
    times = ["--frame-time", "100", "--temperatures", "500", "600", "750"]
    assert main([*common, *times, "--json", str(target), "--plot", str(tmp_path / "out.png")]) == 0
    assert "activation energy" in capsys.readouterr().out
    line = json.loads(target.read_text())["tracer_line"]
    assert abs(line["activation_energy"] - 0.2) < 4 * line["activation_energy_std"]
    assert (tmp_path / "out.png").exists()
    assert main([*common, "--temperatures", "500", "600", "750"]) == 2
    assert "--frame-time" in capsys.readouterr().err
    assert main([*common, "--frame-time", "100", "--temperatures", "500", "600"]) == 2
    assert "3 trajectories for 2 temperatures" in capsys.readouterr().err
    assert main([*common, *times, "--draws", "4"]) == 2
    assert "--draws needs --model" in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_runs_dynamics_with_a_model(tmp_path, capsys):
    start, frames = alpha_silver_iodide(3, random_state=0), []
    for t in (600, 1200):
        frames += run_md(start, SilverIodide(), t, 100, 2.0, "nvt", np.random.default_rng(0), record_every=20).frames
    terms = [
        gapkit.Term(gapkit.PairDistance(r_cut=7.0), gapkit.SquaredExponential(0.8), n_sparse=30),
    ]
    gap = gapkit.GAP(terms=terms, e0={"Ag": 0.0, "I": 0.0}, folds=3, random_state=0).fit(frames)
    gap.save(tmp_path / "silver.gapkit")
    write(tmp_path / "start.xyz", frames[-1])
    command = [
        "transport", str(tmp_path / "start.xyz"), "--model", str(tmp_path / "silver.gapkit"), "--species", "Ag",
        "--temperatures", "700", "--timestep", "4", "--steps", "900", "--equilibration", "20", "--n-replicas", "1",
        "--record-every", "10", "--quiet",
    ]  # fmt: skip
    assert main(command) == 0
    assert "54 Ag ions" in capsys.readouterr().out
    assert main([*command, "--frame-time", "1"]) == 2
    assert main([*command, "--draws", "2"]) == 2
