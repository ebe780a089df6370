"""Model files: what comes back is what was saved; what was altered is refused; a crash leaves the old file."""

import hashlib
import io
import json
import os
import pickle
import zipfile

import numpy as np
import pytest
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.exceptions import NotFittedError

import gapkit
from gapkit.cli import main
from gapkit.estimators.stored_parameters import restored, stored
from gapkit.exceptions import GapkitWarning, ModelFileError, SettingsError
from gapkit.fitting.model_archive import SEAL, digests
from tests.conftest import copper_frames, small_gap

FIXED = {"energy": 0.01, "forces": 0.1, "virial": 0.1}


def same_predictions(a, b, frames):
    """Bitwise equality of every number that predict gives."""
    p, q = (g.predict(frames, uncertainty=True) for g in (a, b))
    np.testing.assert_array_equal(p.energy, q.energy)
    np.testing.assert_array_equal(p.energy_std, q.energy_std)
    for name in ("forces", "stress", "local_energy", "forces_std", "stress_std", "local_energy_std"):
        for x, y in zip(getattr(p, name), getattr(q, name), strict=True):
            assert (x is None) == (y is None)
            if x is not None:
                np.testing.assert_array_equal(x, y, err_msg=name)


def through_file(gap, tmp_path, baseline=None, **saving):
    path = tmp_path / "round.gapkit"
    gap.save(path, **saving)
    return gapkit.load(path, baseline)


# ---- round trips


def test_round_trip_is_exact(gap, held_out, tmp_path):
    loaded = through_file(gap, tmp_path)
    same_predictions(gap, loaded, held_out)
    assert loaded.describe() == gap.describe()
    assert loaded.potential_.domain_limit() == gap.potential_.domain_limit()
    twice = tmp_path / "twice.gapkit"
    loaded.save(twice)
    same_predictions(gap, gapkit.load(twice), held_out)


def test_round_trip_with_own_noise_groups_two_species_and_a_triplet_term(tmp_path):
    frames = copper_frames(6, seed=3)
    mixed = []
    for atoms in frames:
        other = atoms.copy()
        other.symbols[0] = "Au"
        other.calc = EMT()
        other.info["energy"], other.arrays["forces"] = other.get_potential_energy(), other.get_forces()
        other.calc = None
        mixed.append(other)
    terms = [
        gapkit.Term(gapkit.Triplet(r_cut=3.4), gapkit.SquaredExponential((1.0, 1.5, 0.8)), n_sparse=10),
        gapkit.Term(
            gapkit.SOAP(r_cut=4.0, n_max=3, l_max=2, compression="mu1nu1"),
            gapkit.DotProduct(2),
            n_sparse=12,
            signal=3.0,
        ),
    ]
    noise = {**FIXED, "config_types": {"cluster": {"forces": 0.3}}}
    e0 = {"Cu": 0.1, "Au": -0.2}
    gap = gapkit.GAP(terms, e0=e0, noise_levels=noise, sparse={"selection": "fps"}, folds=2, random_state=5, n_jobs=1)
    gap.fit(frames + mixed)
    loaded = through_file(gap, tmp_path)
    same_predictions(gap, loaded, mixed + frames)
    for name in ("folds", "e0", "noise_levels", "sparse", "random_state", "energy_key", "n_jobs"):
        assert getattr(loaded, name) == getattr(gap, name), name
    assert loaded.terms == gap.terms
    assert [t.settings() for t in loaded.potential_.terms] == [t.settings() for t in gap.potential_.terms]


@pytest.mark.parametrize(
    "changed",
    [
        {"noise_levels": {"energy": 0.01, "config_types": {"a": {"forces": 0.3}}, "objective": "evidence"}},
        {"baseline": "zbl", "e0": {29: 0.5}, "random_state": np.int64(3), "folds": 3, "n_jobs": 2},
        {"baseline": {"name": "zbl", "r_cut": 3.1}, "sparse": {"n": 7, "stratified": True}, "exact": False},
        {
            "terms": [{"name": "pair", "r_cut": 4.0, "length_scale": 0.6, "n_sparse": 9}],
            "noise_levels": "leave_one_out",
        },
    ],
)
def test_parameters_survive_the_file(gap, train, tmp_path, changed):
    made = small_gap(**changed)
    made.potential_, made._fit = gap.potential_, None
    assert through_file(made, tmp_path).get_params() == made.get_params()


def test_auto_stays_auto_in_the_file(tmp_path):
    made = gapkit.GAP(sparse="fps", folds=2).fit(copper_frames(6, seed=2))
    loaded = through_file(made, tmp_path)
    assert loaded.get_params() == made.get_params()
    assert loaded.potential_.terms == made.potential_.terms


def test_a_calculator_as_baseline_is_the_one_given(train, tmp_path):
    made = small_gap(baseline=EMT()).fit(train)
    made.save(tmp_path / "on_top.gapkit")
    calculator = EMT()
    assert gapkit.load(tmp_path / "on_top.gapkit", baseline=calculator).baseline is calculator


def test_a_loaded_model_fits_again_to_the_same(gap, train, held_out, tmp_path):
    again = through_file(gap, tmp_path).fit(train)
    np.testing.assert_allclose(again.predict(held_out).energy, gap.predict(held_out).energy, rtol=0, atol=1e-9)


def test_zbl_baseline_is_stored(train, held_out, tmp_path):
    gap = small_gap(baseline={"name": "zbl", "r_cut": 3.1, "cutoff_width": 1.5}).fit(train)
    loaded = through_file(gap, tmp_path)
    same_predictions(gap, loaded, held_out)
    with pytest.raises(ModelFileError, match="holds the model's baseline zbl; load it without one"):
        through_file(gap, tmp_path, baseline=EMT())
    assert (loaded.potential_.baseline.r_cut, loaded.potential_.baseline.cutoff_width) == (3.1, 1.5)


def test_a_calculator_as_baseline_must_be_given_again(train, held_out, tmp_path):
    baseline = LennardJones(epsilon=0.1, sigma=2.2, rc=4.0, smooth=True)
    gap = small_gap(baseline=baseline).fit(train)
    path = tmp_path / "m.gapkit"
    gap.save(path)
    with pytest.raises(
        ModelFileError, match=r"m\.gapkit: .*calculator LennardJones.*load\(path, baseline=calculator\)"
    ):
        gapkit.load(path)
    same_predictions(gap, gapkit.load(path, baseline), held_out)
    with pytest.raises(SettingsError, match="baseline must be"):
        gapkit.load(path, baseline="lj")
    with pytest.warns(GapkitWarning, match="calculator LennardJones, and is loaded on top of EMT"):
        other = gapkit.load(path, EMT())
    assert np.abs(other.predict(held_out).energy - gap.predict(held_out).energy).min() > 1e-3


def test_a_baseline_that_was_not_there_is_refused(model_file):
    with pytest.raises(ModelFileError, match="fitted without a baseline; load it without one"):
        gapkit.load(model_file, baseline=EMT())


def test_update_after_a_round_trip_equals_update_without(train, held_out, tmp_path):
    gap = small_gap().fit(train)
    loaded = through_file(gap, tmp_path, updatable=True)
    same_predictions(gap, loaded, held_out)
    before = gap.predict(train).energy
    gap.update(held_out)
    loaded.update(held_out)
    same_predictions(gap, loaded, train)
    assert np.abs(gap.predict(train).energy - before).max() > 1e-5
    twice = tmp_path / "twice.gapkit"
    loaded.save(twice, updatable=True)
    same_predictions(loaded, gapkit.load(twice), held_out)


def test_without_triangles_a_model_is_smaller_and_says_why_it_cannot_be_updated(gap, held_out, tmp_path):
    gap.save(tmp_path / "small.gapkit")
    gap.save(tmp_path / "large.gapkit", updatable=True)
    assert (tmp_path / "small.gapkit").stat().st_size < 0.95 * (tmp_path / "large.gapkit").stat().st_size
    loaded = gapkit.load(tmp_path / "small.gapkit")
    with pytest.raises(SettingsError, match="save it with updatable=True"):
        loaded.update(held_out)
    with pytest.raises(SettingsError, match="cannot be saved as updatable"):
        loaded.save(tmp_path / "again.gapkit", updatable=True)
    assert not (tmp_path / "again.gapkit").exists()


def test_what_stands_in_the_header(model_file, train):
    with zipfile.ZipFile(model_file) as archive:
        header = json.loads(archive.read("header.json"))
    assert header["format"] == "gapkit-model"
    assert header["format_version"] == 4
    assert header["units"]["stress"] == "eV/A^3"
    assert header["metadata"]["n_frames"] == len(train)
    assert len(header["metadata"]["training_hash"]) == 64
    assert set(header["calibration"]["groups"]) == {"energy", "forces", "virial"}


def test_an_unfitted_model_cannot_be_saved(tmp_path):
    with pytest.raises(NotFittedError):
        small_gap().save(tmp_path / "m.gapkit")
    assert list(tmp_path.iterdir()) == []


# ---- written as a whole or not at all


@pytest.mark.parametrize("place", ["zipfile.ZipFile.writestr", "os.fsync", "os.replace", "json.dumps"])
@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt(), RuntimeError("x")])
def test_a_failure_in_the_middle_leaves_the_old_file(gap, tmp_path, monkeypatch, place, failure):
    path = tmp_path / "m.gapkit"
    path.write_bytes(b"old")

    def fail(*_, **__):
        raise failure

    monkeypatch.setattr(place, fail)
    expected = ModelFileError if isinstance(failure, OSError) and place != "json.dumps" else type(failure)
    with pytest.raises(expected):
        gap.save(path)
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["m.gapkit"]


def test_places_that_cannot_be_written_to(gap, tmp_path, monkeypatch):
    with pytest.raises(ModelFileError, match="is a folder; give the name of a file"):
        gap.save(tmp_path)
    with pytest.raises(ModelFileError, match="none.*cannot be written there"):
        gap.save(tmp_path / "none" / "m.gapkit")

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("gapkit.safe_write._new_file", refuse)
    with pytest.raises(ModelFileError, match="Permission denied.*choose another folder"):
        gap.save(tmp_path / "m.gapkit")
    assert list(tmp_path.iterdir()) == []


def test_a_saved_file_has_the_permissions_of_any_other(gap, tmp_path):
    old = os.umask(0o027)
    try:
        gap.save(tmp_path / "m.gapkit")
    finally:
        os.umask(old)
    assert (tmp_path / "m.gapkit").stat().st_mode & 0o777 == 0o640


def test_save_replaces_an_older_model(gap, held_out, tmp_path):
    path = tmp_path / "m.gapkit"
    path.write_bytes(b"old")
    gap.save(str(path))
    same_predictions(gap, gapkit.load(str(path)), held_out)


# ---- altered files


def reseal(data: bytes) -> bytes:
    """With the checksum that the altered content asks for: what a forger would do."""
    return data[:-SEAL] + hashlib.sha256(data[:-SEAL]).hexdigest().encode()


def members_of(path) -> dict[str, bytes]:
    """Name and bytes of every member."""
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(members, seal=True) -> bytes:
    """A file of these members, sealed."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as new:
        for name, data in members.items():
            new.writestr(name, data)
        new.comment = SEAL * b"0"
    return reseal(stream.getvalue()) if seal else stream.getvalue()


def with_digests(members: dict[str, bytes]) -> dict[str, bytes]:
    """The members with the digests that their content asks for; as they are, where they cannot be read."""
    try:
        header = json.loads(members["header.json"])
        arrays = {n.removesuffix(".npy"): np.load(io.BytesIO(d)) for n, d in members.items() if n.endswith(".npy")}
        header["digests"] = digests(header, arrays)
    except (ValueError, TypeError, EOFError):
        return members
    return {**members, "header.json": json.dumps(header).encode()}


def rewritten(model_file, change_header=None, change_member=None, seal=True, forged=True) -> bytes:
    """The model with a changed header or member, as another program would write it; ``forged``: with new digests."""
    members = members_of(model_file)
    if change_header is not None:
        header = json.loads(members["header.json"])
        change_header(header)
        members["header.json"] = json.dumps(header).encode()
    if change_member is not None:
        changed = {name: change_member(name, data) for name, data in members.items()}
        members = {name: data for name, data in changed.items() if data is not None}
    return packed(with_digests(members) if forged else members, seal)


def refused(data: bytes, path, pattern: str):
    path.write_bytes(data)
    with pytest.raises(ModelFileError, match=f"bad.gapkit: .*{pattern}"):
        gapkit.load(path)


def test_the_helper_that_forges_makes_files_that_load(model_file, gap, held_out, tmp_path):
    path = tmp_path / "m.gapkit"
    path.write_bytes(rewritten(model_file))
    same_predictions(gap, gapkit.load(path), held_out)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_changed_byte_is_refused(model_file, tmp_path, data):
    content = bytearray(model_file.read_bytes())
    place = data.draw(
        st.integers(0, len(content) - 1) | st.integers(0, 400) | st.integers(len(content) - 900, len(content) - 1)
    )
    content[place] ^= data.draw(st.integers(1, 255))
    refused(bytes(content), tmp_path / "bad.gapkit", "")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_truncated_or_longer_file_is_refused(model_file, tmp_path, data):
    content = model_file.read_bytes()
    cut = data.draw(st.integers(0, len(content) - 1))
    refused(content[:cut], tmp_path / "bad.gapkit", "(truncated or altered|not a gapkit model)")
    refused(content + data.draw(st.binary(min_size=1, max_size=100)), tmp_path / "bad.gapkit", "truncated or altered")
    refused(content[:cut] + content[cut + 1 :], tmp_path / "bad.gapkit", "")


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=2000), st.sampled_from([b"", b"PK", b"PK\x03\x04", b"PK\x05\x06" + bytes(18)]), st.booleans())
def test_random_bytes_are_refused(tmp_path, content, start, sealed):
    refused((start + content if not sealed else reseal(start + content + SEAL * b"0")), tmp_path / "bad.gapkit", "")


def test_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(ModelFileError, match="none.gapkit: no such model file"):
        gapkit.load(tmp_path / "none.gapkit")
    with pytest.raises(ModelFileError, match="no such model file"):
        gapkit.load(tmp_path)


def test_a_newer_format_says_so(model_file, tmp_path):
    data = rewritten(model_file, lambda h: h.update(format_version=5))
    refused(data, tmp_path / "bad.gapkit", r"model format 5 is newer than 4, .*install a newer gapkit")


@pytest.mark.parametrize(
    "change",
    [
        lambda h: h["reference"]["values"].update({"29": 5.0}),
        lambda h: h.update(signal=[1.0, 1.0]),
        lambda h: h["units"].update(energy="Ha"),
        lambda h: h.update(note="hello"),
    ],
)
def test_an_edited_header_is_refused(model_file, tmp_path, change):
    data = rewritten(model_file, change, seal=False)
    refused(data, tmp_path / "bad.gapkit", "truncated or altered; restore it")


def delete(*path):
    def change(header):
        for key in path[:-1]:
            header = header[key]
        del header[path[-1]]

    return change


@pytest.mark.parametrize(
    "change",
    [
        delete("species"),
        delete("terms"),
        delete("terms", 0),
        delete("blocks"),
        delete("blocks", 1),
        delete("signal"),
        delete("signal", 0),
        delete("reference"),
        delete("calibration"),
        delete("estimator"),
        delete("metadata"),
        delete("baseline"),
        lambda h: h.update(estimator={"colour": "red"}),
        lambda h: h.update(estimator=3),
        lambda h: h.update(species=["Cu"]),
        lambda h: h.update(species=[79]),
        lambda h: h.update(species=[29, 79]),
        lambda h: h.update(species=[-29]),
        lambda h: h.update(species=[10**30]),
        lambda h: h["terms"][1].update(n_max=5),
        lambda h: h["terms"][1].update(l_max=2),
        lambda h: h["terms"][1].update(n_max=10**9),
        lambda h: h["terms"][1].update(l_max=-5),
        lambda h: h["terms"][1].update(name="os.system"),
        lambda h: h["terms"][1].update(r_cut="x"),
        lambda h: h["blocks"][1].update(term=7),
        lambda h: h["blocks"][1].update(channel=[79]),
        lambda h: h["blocks"][0].update(channel=[29]),
        lambda h: h.update(format_version=0),
        lambda h: h.update(format_version="1"),
        lambda h: h.update(format="gap-model"),
        lambda h: h.update(baseline={"name": "os.system"}),
        lambda h: h.update(baseline=5),
        lambda h: h.update(calibration={"scale": "x", "groups": {"energy": {"a": 1}}}),
    ],
)
def test_a_forged_header_that_does_not_hold_together_is_refused(model_file, tmp_path, change):
    refused(rewritten(model_file, change), tmp_path / "bad.gapkit", "")


def npy(array, allow_pickle=False):
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, allow_pickle=allow_pickle)
    return stream.getvalue()


FORGED = [np.zeros(0), np.zeros(5), np.zeros((30, 2)), np.full(30, np.nan), np.full(30, 1, dtype=np.int64)]
FORGED.append(np.array("x"))


@pytest.mark.parametrize("array", FORGED)
@pytest.mark.parametrize("member", ["alpha", "weights", "R", "block1.points", "term1.table", "term1.centre"])
def test_a_forged_array_is_refused(model_file, tmp_path, member, array):
    data = rewritten(model_file, change_member=lambda name, old: npy(array) if name == f"{member}.npy" else old)
    refused(data, tmp_path / "bad.gapkit", "")
    gone = rewritten(model_file, change_member=lambda name, old: None if name == f"{member}.npy" else old)
    refused(gone, tmp_path / "bad.gapkit", "")


def with_factor(model_file, array) -> bytes:
    """The model with a factor of its second block that does not follow from the points."""
    return packed(with_digests({**members_of(model_file), "block1.factor.npy": npy(array)}))


@pytest.mark.parametrize("array", FORGED)
def test_a_forged_factor_is_refused(model_file, tmp_path, array):
    refused(with_factor(model_file, array), tmp_path / "bad.gapkit", "")


def test_a_factor_of_other_bits_is_kept(gap, model_file, held_out, tmp_path):
    """One that another machine rounded otherwise; what follows from the points bit for bit is not in the file."""
    with zipfile.ZipFile(model_file) as archive:
        assert not any("factor" in name for name in archive.namelist())
    L = gap.potential_.basis.blocks[1].factor * (1 + 1e-13)
    (tmp_path / "m.gapkit").write_bytes(with_factor(model_file, L[np.tril_indices(len(L))]))
    loaded = gapkit.load(tmp_path / "m.gapkit")
    np.testing.assert_array_equal(loaded.potential_.basis.blocks[1].factor, L)
    same_predictions(loaded, through_file(loaded, tmp_path), held_out)


def test_points_that_have_no_factor_are_refused(model_file, tmp_path):
    """Twice the same point, with a negative jitter."""

    def doubled(name, data):
        if name != "block1.points.npy":
            return data
        points = np.load(io.BytesIO(data))
        points[1] = points[0]
        return npy(points)

    data = rewritten(model_file, lambda h: h["blocks"][1].update(jitter=-1e-6), doubled)
    refused(data, tmp_path / "bad.gapkit", "does not hold together")


class Trap:
    """Unpickling it leaves a trace."""

    def __reduce__(self):
        return (exec, ("import builtins; builtins.gapkit_was_trapped = True",))


def test_a_pickle_is_never_opened(model_file, tmp_path):
    import builtins

    path = tmp_path / "bad.gapkit"
    trap = npy(np.array([Trap()], dtype=object), allow_pickle=True)
    refused(rewritten(model_file, change_member=lambda n, d: trap if n == "alpha.npy" else d), path, "")
    refused(rewritten(model_file, change_member=lambda n, d: pickle.dumps(Trap()) if n == "alpha.npy" else d), path, "")
    refused(
        rewritten(model_file, change_member=lambda n, d: pickle.dumps(Trap()) if n == "header.json" else d), path, ""
    )
    refused(pickle.dumps(Trap()), path, "not a gapkit model")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.pkl", pickle.dumps(Trap()))
    refused(path.read_bytes(), path, "not a gapkit model")
    assert not hasattr(builtins, "gapkit_was_trapped")
    pickle.loads(pickle.dumps(Trap()))  # the trap works
    assert hasattr(builtins, "gapkit_was_trapped")
    del builtins.gapkit_was_trapped


def test_an_ordinary_zip_of_arrays_is_no_model(tmp_path):
    np.savez(tmp_path / "bad.npz", alpha=np.zeros(3))
    (tmp_path / "bad.npz").rename(tmp_path / "bad.gapkit")
    with pytest.raises(ModelFileError, match="not a gapkit model"):
        gapkit.load(tmp_path / "bad.gapkit")


@pytest.mark.parametrize("command", ["info", "evaluate", "predict", "md"])
def test_the_command_line_refuses_a_damaged_model(model_file, tmp_path, capsys, command):
    bad = tmp_path / "bad.gapkit"
    content = model_file.read_bytes()
    out = tmp_path / "out.xyz"
    out.write_text("old")
    more = {
        "info": [],
        "evaluate": ["x.xyz", "--json", out],
        "predict": ["x.xyz", "-o", out],
        "md": ["x.xyz", "-o", out],
    }
    newer = rewritten(model_file, lambda h: h.update(format_version=9))
    for data, message in ((content[:-10], "altered"), (b"", "not a gapkit model"), (newer, "newer")):
        bad.write_bytes(data)
        assert main([command, str(bad), *map(str, more[command])]) == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1
        assert message in err
    assert out.read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.gapkit", "out.xyz"]


def test_parameters_of_files_of_older_versions_have_their_present_names():
    gap = small_gap(noise_levels={"forces": 0.1}).fit(copper_frames(8, seed=1))
    old = stored(gap.get_params(deep=False))
    old["noise"] = old.pop("noise_levels")
    given = restored(old, gap.potential_)
    assert given["noise_levels"] == gap.noise_levels and "noise" not in given
    assert set(given) == set(gap.get_params(deep=False))
