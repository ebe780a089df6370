"""Active search for a saddle: few calls of the oracle, its own labels at the end, and rough first potentials."""

import json

import numpy as np
import pytest
from ase.build import add_adsorbate, fcc100
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms

import gapkit
from gapkit.apps.kinetics.active_barrier import ActiveBarrierSettings, run_active_barrier
from gapkit.apps.kinetics.pictures import active_barrier_figure
from gapkit.apps.kinetics.saddle_labels import distance, domain_excess, frame_within
from gapkit.apps.kinetics.stationary_points import SOFTEST, residual_shift
from gapkit.cli.main import main
from gapkit.exceptions import DataError, SettingsError
from gapkit.sampling.paths import PathSettings, find_path
from gapkit.sampling.relaxation import RelaxationSettings
from gapkit.structures.files import read_frames, write_frames
from gapkit.vibrations import given_hessian


def adatom():
    """An atom in two neighbouring hollows of a small slab of aluminium, not relaxed."""
    initial = fcc100("Al", size=(2, 2, 3), vacuum=8.0)
    add_adsorbate(initial, "Al", 1.6, "hollow")
    initial.info.clear()
    initial.set_constraint(FixAtoms(mask=initial.get_tags() > 1))
    final = initial.copy()
    final.positions[-1, 0] += initial.cell[0, 0] / 2
    return initial, final


def light():
    """A model of few sparse points."""
    soap = gapkit.SOAP(r_cut=5.0, n_max=6, l_max=4)
    return gapkit.GAP([gapkit.Term(soap, gapkit.DotProduct(2), 150)], folds=3, random_state=0)


def search(settings=None, make=EMT, ends=None, **options):
    """A search with the light model, unless another one is given."""
    options = {"model": light(), "random_state": 0, **options}
    return run_active_barrier(make, *(adatom() if ends is None else ends), settings, **options)


@pytest.fixture(scope="module")
def truth():
    """Barrier and evaluations by the oracle's own band."""
    path = find_path(*adatom(), EMT(), PathSettings(images=5))
    assert path.converged
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("labels")


@pytest.fixture(scope="module")
def found(folder):
    return search(folder=folder)


def test_the_barrier_is_the_oracles_within_its_small_error(found, truth):
    assert found.converged and found.path.connects == (True, True)
    assert found.forward_std < 0.005
    assert abs(found.forward - truth.barrier_forward) < max(found.forward_std, 1e-4)
    assert abs(found.backward - truth.barrier_backward) < max(found.backward_std, 1e-4)
    assert np.all(found.largest_force < found.settings.fmax)
    assert found.curvature == pytest.approx(truth.curvature, rel=0.2)


def test_the_search_takes_a_third_of_the_calls_of_a_band_at_most(found, truth):
    settings = PathSettings(images=5, fmax=0.02, ends=RelaxationSettings(fmax=0.02), refine=False)
    band = find_path(*adatom(), EMT(), settings)
    assert band.barrier_forward == pytest.approx(truth.barrier_forward, abs=0.005)
    assert found.calls <= band.evaluations / 3
    assert found.calls == len(found.frames) and not found.failures


def test_points_carry_labels_of_the_oracle(found):
    energies = []
    for atoms in found.points:
        live = atoms.copy()
        live.calc = EMT()
        energies.append(live.get_potential_energy())
        assert atoms.calc.results["energy"] == pytest.approx(energies[-1], abs=1e-10)
    assert found.forward == pytest.approx(energies[1] - energies[0] + found.shift[1] - found.shift[0], abs=1e-9)
    assert found.forward_std == pytest.approx(np.hypot(found.shift_error[0], found.shift_error[1]))


def test_a_search_in_the_same_folder_goes_on_from_its_labels(found, folder):
    again = search(folder=folder)
    assert again.calls == 0 and len(again.frames) == len(found.frames)
    assert again.forward == pytest.approx(found.forward, abs=1e-9)


def test_frames_of_an_earlier_search_or_a_fitted_model_save_calls(found):
    by_frames = search(frames=found.frames, random_state=1)
    by_model = search(model=found.gap, random_state=1)
    for one in (by_frames, by_model):
        assert one.converged and one.calls < found.calls
        assert one.forward == pytest.approx(found.forward, abs=max(found.forward_std, one.forward_std))
    assert found.gap.potential_ is not by_model.gap.potential_


def test_ends_far_from_their_minima_are_led_there(found):
    ends = adatom()
    rng = np.random.default_rng(5)
    for atoms in ends:
        atoms.positions[-5:] += rng.normal(scale=0.25, size=(5, 3))
    again = search(ends=ends, random_state=2)
    assert again.converged and again.path.connects == (True, True)
    assert again.forward == pytest.approx(found.forward, abs=max(again.forward_std, found.forward_std, 1e-4))


class FailsOnce:
    """Makes an oracle whose fifth call fails."""

    def __init__(self):
        self.calls = 0

    def __call__(self):
        outer = self

        class Oracle(EMT):
            def calculate(self, *arguments, **keywords):
                outer.calls += 1
                if outer.calls == 5:
                    raise RuntimeError("no convergence")
                super().calculate(*arguments, **keywords)

        return Oracle()


def test_a_failed_label_is_counted_and_passed_over(found):
    made = search(make=FailsOnce())
    assert made.converged and len(made.failures) == 1 and "no convergence" in made.failures[0]
    assert made.calls == len(made.frames) + 1
    assert made.forward == pytest.approx(found.forward, abs=max(made.forward_std, found.forward_std, 1e-4))


def test_a_search_without_labels_left_says_so():
    seen = []
    short = search(ActiveBarrierSettings(max_labels=13, fmax=1e-4), callback=seen.append)
    assert not short.converged and "NOT CONVERGED" in str(short)
    assert short.calls <= 13 and tuple(seen) == short.steps
    with pytest.raises(DataError, match="no saddle was labelled"):
        search(callback=lambda step: True)


def test_label_noise_is_part_of_both_errors(found):
    noisy = search(ActiveBarrierSettings(label_noise=0.003), frames=found.frames)
    assert noisy.forward_std >= np.sqrt(2) * 0.003
    assert noisy.forward_std == pytest.approx(
        np.sqrt(noisy.shift_error[0] ** 2 + noisy.shift_error[1] ** 2 + 2 * 0.003**2)
    )


def test_the_shift_of_a_quadratic_surface_is_exact():
    rng = np.random.default_rng(3)
    q, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    curvature = np.array([-0.8, 0.3, 0.9, 2.0, 5.0, 11.0])
    H, x = q @ np.diag(curvature) @ q.T, rng.normal(scale=0.05, size=6)
    shift, error = residual_shift(given_hessian(fcc100("Al", size=(1, 1, 2)), H), (-H @ x).reshape(2, 3))
    assert shift == pytest.approx(-0.5 * x @ H @ x, abs=1e-12)  # the stationary point has the energy 0
    assert error == pytest.approx(0.5 * np.abs(curvature) @ (q.T @ x) ** 2, abs=1e-12)
    flat = np.diag([1.0, 1.0, 1.0, 1.0, 1.0, 1e-6])
    shift, error = residual_shift(given_hessian(fcc100("Al", size=(1, 1, 2)), flat), np.full((2, 3), 0.01))
    assert shift == pytest.approx(-2.5e-4) and error == pytest.approx(2.5e-4 + 0.5e-4 / SOFTEST)


def test_a_frame_beyond_trust_is_approached_on_a_straight_line(found):
    known = [found.points[0]]
    far = found.points[0].copy()
    far.positions[-1] += (0.0, 0.0, 1.5)
    near = frame_within(found.gap, known, far, 1e9, 0.3)
    assert distance(known[0], near) == pytest.approx(0.3) and near.positions[-1, 2] > known[0].positions[-1, 2]
    careful = frame_within(found.gap, known, far, 1e-9, 0.3)
    assert distance(known[0], careful) == pytest.approx(0.1)
    assert frame_within(found.gap, known, known[0], 1e9, 0.3) is known[0]
    assert domain_excess(found.gap, far) > domain_excess(found.gap, known[0])


def test_a_result_is_printed_stored_and_drawn(found, tmp_path):
    table = json.loads(json.dumps(found.to_dict()))
    assert table["forward"] == found.forward and table["calls"] == found.calls and table["connects"] == [True, True]
    assert f"converged; {found.calls} calls of the oracle" in str(found)
    active_barrier_figure(found, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 5000


def test_what_cannot_be_searched_is_refused(found):
    initial, final = adatom()
    with pytest.raises(DataError, match="same frame"):
        run_active_barrier(EMT, initial, initial.copy())
    with pytest.raises(SettingsError, match="make_oracle"):
        run_active_barrier(EMT(), initial, final)
    with pytest.raises(SettingsError, match="fitted model or training frames"):
        run_active_barrier(EMT, initial, final, model=found.gap, frames=found.frames)
    with pytest.raises(SettingsError, match="max_labels"):
        ActiveBarrierSettings(max_labels=1)


def test_the_command_writes_numbers_picture_and_labelled_frames(found, tmp_path, capsys):
    for name, atoms in zip(("i.xyz", "f.xyz"), adatom(), strict=True):
        write_frames(tmp_path / name, [atoms])
    found.gap.save(tmp_path / "m.gapkit", updatable=True)
    files = [str(tmp_path / name) for name in ("i.xyz", "f.xyz", "m.gapkit", "b.json", "b.png", "out.xyz")]
    arguments = ["--oracle", "emt", "--model", files[2], "--json", files[3], "--plot", files[4], "--output", files[5]]
    assert main(["saddle", *files[:2], *arguments, "--no-verify", "--quiet"]) == 0
    table = json.loads((tmp_path / "b.json").read_text())
    assert table["forward"] == pytest.approx(found.forward, abs=max(table["forward_std"], found.forward_std))
    assert table["curvature"] is None and table["calls"] < found.calls
    assert len(read_frames(tmp_path / "out.xyz")) == table["labels"]
    assert (tmp_path / "b.png").stat().st_size > 5000
    assert "calls of the oracle" in capsys.readouterr().out
    assert main(["saddle", files[0], files[0], "--oracle", "emt", "--quiet"]) == 2
    assert "same frame" in capsys.readouterr().err
