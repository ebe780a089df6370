"""Mutated model files are refused in one line, or predict what they predicted; ``benchmarks/mutated_models.py`` tries
ten thousand in processes of their own."""

import io
import itertools
import json
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

import gapkit
from gapkit.exceptions import ModelFileError
from gapkit.fitting import model_file as module
from gapkit.fitting.model_archive import LONGEST, digests
from tests.conftest import small_gap
from tests.fitting.mutations import Mutator, npy, packed, predictions, sealed, verdict


@pytest.fixture(scope="module")
def models(gap, train, tmp_path_factory):
    """Files of a sparse model, of one with triangles, and of an exact mean on projected features over a baseline."""
    folder = tmp_path_factory.mktemp("models")
    gap.save(folder / "sparse")
    gap.save(folder / "updatable", updatable=True)
    terms = [
        gapkit.Term(gapkit.PairDistance(r_cut=4.0), gapkit.SquaredExponential(0.7), n_sparse=10),
        gapkit.Term(gapkit.SOAP(r_cut=4.0, n_max=4, l_max=3), gapkit.DotProduct(2), n_sparse=20, projection=16),
    ]
    small_gap(terms=terms, exact=True, baseline="zbl").fit(train).save(folder / "exact")
    return folder


@pytest.mark.parametrize(("model", "seed"), [("sparse", 11), ("updatable", 12), ("exact", 13)])
def test_no_mutated_file_predicts_other_numbers(models, held_out, tmp_path, model, seed):
    """But where all digests are made anew and the number is free by nature (``mutations.FREE_BY_NATURE``)."""
    frames, path = held_out[2:4], tmp_path / "m.gapkit"
    expected = predictions(gapkit.load(models / model), frames)
    refused = 0
    for mutation in itertools.islice(Mutator(models / model, seed), 40):
        path.write_bytes(mutation.data)
        found = verdict(path, frames, expected)
        refused += found == "refused"
        allowed = {"refused", "same", *(["different"] if mutation.is_free else [])}
        assert found in allowed, f"{mutation.kind} of {mutation.place}, sealed: {mutation.sealed}: {found}"
    assert refused > 20


def test_the_mutations_find_a_load_that_checks_nothing(models, held_out, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_check_identities", lambda *_: None)
    monkeypatch.setattr("gapkit.fitting.model_archive._check_digests", lambda *_: None)
    frames, path = held_out[2:4], tmp_path / "m.gapkit"
    expected = predictions(gapkit.load(models / "sparse"), frames)
    wrong = set()
    for mutation in itertools.islice(Mutator(models / "sparse", 14), 60):
        path.write_bytes(mutation.data)
        if verdict(path, frames, expected) == "different" and not mutation.is_free:
            wrong.add(mutation.place)
    assert wrong & {"alpha", "weights", "R", "z", "c", "block0.points", "block1.points", "signal"}


# ---- single findings


class Forger:
    """A model file taken apart, to be put together again with all digests right."""

    def __init__(self, path):
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        self.header = json.loads(members.pop("header.json"))
        self.arrays = {n.removesuffix(".npy"): np.load(io.BytesIO(d)) for n, d in members.items()}

    def data(self, text=None, raw=None, more=()) -> bytes:
        """The file; ``text`` for another header, ``raw`` members by name, ``more`` members behind."""
        header = (
            {**self.header, "digests": digests(self.header, self.arrays)} if "digests" in self.header else self.header
        )
        arrays = [(f"{n}.npy", (raw or {}).get(n) or npy(a)) for n, a in self.arrays.items()]
        return packed([("header.json", text or json.dumps(header).encode()), *arrays, *more])


@pytest.fixture
def forge(models, tmp_path):
    """Load a forged file, or the reason why it was refused."""

    def load(change, model="sparse", **how):
        forger = Forger(models / model)
        made = change(forger)
        path = tmp_path / "bad.gapkit"
        path.write_bytes(made if isinstance(made, bytes) else forger.data(**how))
        with pytest.raises(ModelFileError) as caught:
            gapkit.load(path)
        message = str(caught.value)
        assert message.startswith(f"{path}: ") and message.isprintable() and len(message) <= LONGEST
        return message

    return load


def without(*path):
    def change(forger):
        inner = forger.header
        for key in path[:-1]:
            inner = inner[key]
        del inner[path[-1]]

    return change


TERM_KEYS = [
    (k, key)
    for k, keys in enumerate(
        (
            ("r_cut", "cutoff_width", "length_scale", "signal", "n_sparse", "projection", "selection", "stratified"),
            ("r_cut", "n_max", "l_max", "sigma", "cutoff_power", "compression", "zeta", "n_sparse"),
        )
    )
    for key in keys
]


@pytest.mark.parametrize(("term", "key"), TERM_KEYS)
def test_no_default_stands_in_for_a_missing_setting(forge, term, key):
    reason = forge(without("terms", term, key))
    assert f"no {key!r}" in reason or "zeta and length_scale" in reason


@pytest.mark.parametrize(
    "path",
    [("units",), ("units", "stress"), ("domain", "local_variance"), ("calibration", "groups", "energy", "noise"),
     ("calibration", "groups", "forces", "held_out_rmse"), ("noise_levels", "forces"), ("reference", "values", "29"),
     ("recalibration", "models", "forces", "hidden_limit"), ("metadata", "training_hash"), ("digests",)],
)  # fmt: skip
def test_no_default_stands_in_for_a_missing_key(forge, path):
    forge(without(*path))


@pytest.mark.parametrize(("name", "unit"), [("energy", "Ha"), ("length", "Bohr"), ("stress", "GPa")])
def test_other_units_are_refused_by_name(forge, name, unit):
    assert f"units.{name} is '{unit}'" in forge(lambda f: f.header["units"].update({name: unit}))


def scaled(name, factor=1.01):
    return lambda f: f.arrays.update({name: f.arrays[name] * factor})


def one_changed(name, at=3, by=1e-3):
    def change(forger):
        forger.arrays[name].flat[at] *= 1 + by

    return change


@pytest.mark.parametrize(
    ("change", "model", "reason"),
    [
        (one_changed("alpha"), "sparse", "alpha of block 0 is not that of the posterior's weights"),
        (one_changed("weights"), "sparse", "the weights are not those of the posterior R and z"),
        (one_changed("R", 40), "sparse", "the weights are not those of the posterior R and z"),
        (scaled("R", 0.0), "sparse", "below one"),
        (one_changed("R", 40), "updatable", "the weights are not those"),
        (one_changed("triangle1", 40), "updatable", "not that of the triangles"),
        (one_changed("block0.points"), "sparse", "not those whose kernel matrix was factorised"),
        (scaled("block1.points", -1.0), "exact", "not those whose kernel matrix was factorised"),
        (scaled("block1.points"), "sparse", "are no unit vectors"),
        (scaled("block1.points", -1.0), "sparse", "not those whose kernel matrix was factorised"),
        (scaled("block0.points", 3.0), "sparse", "beyond the cutoff"),
        (scaled("block1.directions"), "exact", "not orthonormal"),
        (one_changed("term1.table", 1600), "sparse", "radial table"),
        (scaled("term1.centre"), "sparse", "radial table"),
        (lambda f: f.header["blocks"][1].update(jitter=3e-8), "sparse", "jitter of block 1"),
        (lambda f: f.header.update(signal=[1.0, 1.0]), "sparse", "metadata.signal"),
        (lambda f: f.header["noise_levels"].update(forces=1.0), "sparse", "metadata.noise"),
        (lambda f: f.header["terms"][1].update(zeta=2), "sparse", "not those whose kernel matrix was factorised"),
        (lambda f: f.header["terms"][0].update(length_scale=1e-6), "sparse", "too short"),
        (lambda f: f.header["terms"][0].update(r_cut=1e9), "sparse", "r_cut is 1000000000.0"),
        (lambda f: f.header.update(format_version=True), "sparse", "no format version"),
        (lambda f: f.header.update(colour="red"), "sparse", "unknown key 'colour'"),
        (lambda f: f.header["estimator"].update(n_jobs="x"), "sparse", "n_jobs is 'x'"),
        (lambda f: f.arrays.update(evil=np.ones(3)), "sparse", "array evil is unknown"),
        (lambda f: f.arrays.update({"term1.evil": np.ones(3)}), "sparse", "not the arrays of its descriptor"),
        (lambda f: f.arrays.update(folds=f.arrays["folds"][:-1]), "updatable", "folds have the shape"),
        (lambda f: f.arrays.update({"block1.points": np.asfortranarray(f.arrays["block1.points"])}), "sparse",
         "stored column by column"),
        (lambda f: f.arrays.update(alpha=f.arrays["alpha"].astype(">f8")), "sparse", "of the type '>f8'"),
        (lambda f: f.arrays.update(alpha=f.arrays["alpha"][None]), "sparse", "alpha has the shape"),
        (lambda f: f.header["metadata"].update(species=["Ag"]), "sparse", "metadata.species"),
    ],
)  # fmt: skip
def test_what_contradicts_itself_is_refused_at_load(forge, change, model, reason):
    assert reason in forge(change, model)


def test_a_factor_that_is_none_is_refused(forge, gap):
    L = gap.potential_.basis.blocks[1].factor.copy()
    L[5, 2] += 1e-6
    assert "factor of block 1 is not that" in forge(
        lambda f: f.arrays.update({"block1.factor": L[np.tril_indices(20)]})
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (one_changed("alpha"), "alpha of block 0"),
        (scaled("weights"), "alpha of block 0"),
        (scaled("R", 0.0), "below one"),
    ],
)
def test_identities_hold_in_files_without_digests(forge, change, reason):
    """Files of format 3 have neither digests nor the numbers c and z."""

    def older(forger):
        del forger.header["digests"], forger.arrays["c"], forger.arrays["z"]
        forger.header["format_version"] = 3
        change(forger)

    assert reason in forge(older)


def test_a_file_of_format_3_loads(models, gap, held_out, tmp_path):
    forger = Forger(models / "sparse")
    del forger.header["digests"], forger.arrays["c"], forger.arrays["z"]
    forger.header["format_version"] = 3
    (tmp_path / "old").write_bytes(forger.data())
    old = gapkit.load(tmp_path / "old").predict(held_out, uncertainty=True)
    new = gap.predict(held_out, uncertainty=True)
    np.testing.assert_array_equal(old.energy, new.energy)
    np.testing.assert_array_equal(old.energy_std, new.energy_std)


def test_a_change_that_no_identity_sees_is_seen_by_the_digests(models, tmp_path):
    """Whoever makes the seal anew, and knows nothing of digests."""
    for change, reason in (
        (lambda f: f.header["reference"]["values"].update({"29": 5.0}), "the header is not the one that was saved"),
        (scaled("form1.soap"), "array 'form1.soap' is not the"),
    ):
        forger = Forger(models / "sparse")
        change(forger)
        arrays = [(f"{n}.npy", npy(a)) for n, a in forger.arrays.items()]
        (tmp_path / "m").write_bytes(packed([("header.json", json.dumps(forger.header).encode()), *arrays]))
        with pytest.raises(ModelFileError, match=reason):
            gapkit.load(tmp_path / "m")


def test_members_and_keys_that_stand_twice_are_refused(forge):
    twice = [("alpha.npy", npy(np.ones(30)))]
    assert "'alpha.npy' stands twice" in forge(lambda f: f.data(more=twice))
    text = lambda f: json.dumps(f.header)[:-1].encode() + b', "signal": [9.0, 9.0]}'  # noqa: E731
    assert "'signal' stands twice" in forge(lambda f: f.data(text=text(f)))


def test_an_odd_name_or_packing_is_refused(forge):
    for name in ("../../x.npy", "é.npy", "x" * 70 + ".npy", "notes.txt"):
        assert "is unknown" in forge(lambda f, name=name: f.data(more=[(name, b"x")]))

    def bzip2(forger):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_BZIP2) as archive:
            archive.writestr("header.json", json.dumps(forger.header))
            archive.comment = bytes(64)
        return sealed(stream.getvalue())

    assert "packed in an unknown way" in forge(bzip2)


def bomb(size, seal=True):
    """A header of so many blanks, packed."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("header.json", b" " * size + b"{}")
        archive.comment = bytes(64)
    return sealed(stream.getvalue()) if seal else stream.getvalue()


def lying(size):
    """The same, but the directory states a hundred bytes."""
    data = bytearray(bomb(size))
    at = data.rfind(b"PK\x01\x02")
    data[at + 24 : at + 28] = struct.pack("<I", 100)
    return sealed(bytes(data))


@pytest.mark.parametrize("data", [bomb(50_000_000, seal=False), bomb(50_000_000), lying(50_000_000)])
def test_nothing_is_unpacked_that_is_larger_than_it_may_be(tmp_path, data):
    (tmp_path / "bomb").write_bytes(data)
    tracemalloc.start()
    try:
        with pytest.raises(ModelFileError, match="truncated or altered"):
            gapkit.load(tmp_path / "bomb")
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


def test_the_description_of_an_array_is_judged_before_its_numbers(forge):
    def described(shape, by_columns=False, kind="<f8"):
        text = f"{{'descr': '{kind}', 'fortran_order': {by_columns}, 'shape': {shape}, }}\n".encode()
        return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text

    for shape in ("(100000000000,)", "(1000000000, 1000000000)", "(-1,)", "(300000, 0)", "(True,)", "(2, 2, 2)"):
        forge(lambda f, shape=shape: f.data(raw={"alpha": described(shape)}))
    forge(lambda f: f.data(raw={"alpha": described("(1,)", kind="|O") + b"cos\nsystem\n."}))


def test_a_long_path_and_a_long_reason_make_one_short_line(tmp_path):
    folder = tmp_path / ("d" * 200)
    folder.mkdir()
    with pytest.raises(ModelFileError) as caught:
        gapkit.load(folder / ("f" * 200))
    assert str(caught.value).startswith("...") and len(str(caught.value)) <= LONGEST
    with pytest.raises(ModelFileError):
        gapkit.load(tmp_path / ("f" * 5000))
