"""A run of fracture that is interrupted labels no crack again."""

import json
from dataclasses import replace

import numpy as np
import pytest

from gapkit.apps.fracture import run
from gapkit.apps.fracture.bond_labels import BondStress
from gapkit.apps.fracture.cleaving_silicon import CleavingSilicon
from gapkit.apps.fracture.run import FractureSettings, label_material, run_fracture
from gapkit.exceptions import DataError, SettingsError

pytest.importorskip("matscipy")

SETTINGS = FractureSettings(
    systems=("(111)[1-10]", "(110)[001]"), modes=(0.0, 0.1), radius=8.4, factor=1.1, strains=(0.04,)
)


#: cracks behind the first one
BEHIND = (("(111)[1-10]", "5.7"), ("(110)[001]", "0.0"), ("(110)[001]", "5.7"))


@pytest.fixture(scope="module")
def material():
    from gapkit.apps.fracture.crystals import Material

    return Material.measured(CleavingSilicon())


def same(one, two):
    assert [h.name for h in one[0]] == [h.name for h in two[0]]
    for a, b in zip(one[0], two[0], strict=True):
        assert (a.loads, a.rupture, a.healing, a.broke, a.mode) == (b.loads, b.rupture, b.healing, b.broke, b.mode)
        assert all(np.array_equal(x.positions, y.positions) for x, y in zip(a.states, b.states, strict=True))
        assert [(x.energy, x.force, x.evaluations) for x in a.states] == [
            (y.energy, y.force, y.evaluations) for y in b.states
        ]
    for name, value in vars(one[1]).items():
        assert np.array_equal(value, getattr(two[1], name))


def test_finished_cracks_come_back_to_the_last_bit(material, tmp_path, monkeypatch):
    stress, path = BondStress(volume=material.volume), tmp_path / "cracks.npz"
    whole = label_material(replace(material, calculator=CleavingSilicon()), SETTINGS, stress)
    material = replace(material, calculator=CleavingSilicon())
    made, real = [], run.load_both_ways

    def interrupted(*arguments, **keywords):
        if len(made) == 1:
            made.append("interrupted")
            raise KeyboardInterrupt
        made.append(keywords["name"])
        return real(*arguments, **keywords)

    monkeypatch.setattr(run, "load_both_ways", interrupted)
    with pytest.raises(KeyboardInterrupt):
        label_material(material, SETTINGS, stress, checkpoint=path)
    material = replace(material, calculator=CleavingSilicon())  # as in another process
    same(label_material(material, SETTINGS, stress, checkpoint=path), whole)
    assert made == ["(111)[1-10] 0.0", "interrupted", *(f"{a} {b}" for a, b in BEHIND)]
    monkeypatch.setattr(run, "load_both_ways", None)
    monkeypatch.setattr(run, "label_strained", None)
    same(label_material(material, SETTINGS, stress, checkpoint=path), whole)


def test_the_file_of_another_run_is_refused(material, tmp_path, monkeypatch):
    path = tmp_path / "cracks.npz"
    np.savez(path, header=np.array('{"format": 1, "run": {"kind": "replicas"}}'))
    with pytest.raises(SettingsError, match="checkpoint of another run, which differs in .*kind"):
        run_fracture(material, SETTINGS, checkpoint=path)
    path.unlink()
    monkeypatch.setattr(run, "load_both_ways", None)
    labels = run.LabelFile(path, material, SETTINGS, BondStress())
    labels._checkpoint.save({})
    for changed, differ in (
        ((material, replace(SETTINGS, radius=8.5), BondStress()), r"settings \(radius\)"),
        ((replace(material, C11=1.0), SETTINGS, BondStress()), r"settings \(material \(C11\)\)"),
        ((material, SETTINGS, BondStress(radii=(5.0,))), r"settings \(stress \(radii\)\)"),
        ((replace(material, calculator=CleavingSilicon(1.0)), SETTINGS, BondStress()), r"oracle \(calculator"),
    ):
        with pytest.raises(SettingsError, match=f"differs in {differ}"):
            run.LabelFile(path, *changed)
    run.LabelFile(path, replace(material, calculator=CleavingSilicon(skin=0.1)), SETTINGS, BondStress())


def test_a_damaged_file_is_refused(material, tmp_path):
    path = tmp_path / "cracks.npz"
    with np.load(label_one(material, path)) as file:
        arrays = {k: file[k] for k in file.files}
    assert json.loads(str(arrays["header"]))["run"]["kind"] == "fracture"
    for lost in ("labels/driving", "history/loads"):
        np.savez(path, **{k: v for k, v in arrays.items() if not k.endswith(lost)})
        with pytest.raises(DataError, match=r"cracks.npz: not a checkpoint of fracture \(.*\); remove it"):
            label_material(material, SETTINGS, BondStress(volume=material.volume), checkpoint=path)
    path.write_bytes(b"x")
    with pytest.raises(DataError, match="not a complete checkpoint"):
        run_fracture(material, SETTINGS, checkpoint=path)
    with pytest.raises(DataError, match="does not exist"):
        run_fracture(material, SETTINGS, checkpoint=tmp_path / "none" / "c.npz")


def label_one(material, path):
    label_material(material, SETTINGS, BondStress(volume=material.volume), checkpoint=path)
    return path
