"""A model file of format 1 predicts what the code that wrote it predicted.

``format_1.model`` is copper by effective-medium theory, recalibrated and updatable; ``format_1.json`` says what wrote
it and what it predicted for one frame.
"""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

import gapkit
from gapkit.uncertainty.label_errors import FittedErrors

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def known():
    return json.loads((HERE / "format_1.json").read_text())


@pytest.fixture(scope="module")
def frame(known):
    return Atoms(known["symbols"], positions=known["positions"], cell=known["cell"], pbc=True)


@pytest.mark.parametrize("again", [False, True], ids=["as it is", "saved again"])
def test_a_file_of_format_1_predicts_as_before(known, frame, again, tmp_path):
    gap = gapkit.load(HERE / "format_1.model")
    if again:
        gap.save(tmp_path / "new.gapkit", updatable=True)
        gap = gapkit.load(tmp_path / "new.gapkit")
    p = gap.predict([frame], uncertainty=True)
    q = gap.predict([frame], uncertainty=True, include_noise=False)
    widths = gap.intervals([frame], level=0.5)[0]
    found = {
        "energy": p.energy[0], "forces": p.forces[0], "stress": p.stress[0], "energy_std": p.energy_std[0],
        "forces_std": p.forces_std[0], "stress_std": p.stress_std[0], "local_energy_std": p.local_energy_std[0],
        "function_energy_std": q.energy_std[0], "function_forces_std": q.forces_std[0],
        "interval_energy": widths["energy"], "interval_forces": widths["forces"],
        "domain_limit": gap.potential_.domain_limit(include_noise=False),
    }  # fmt: skip
    for name, value in found.items():
        size = np.abs(known[name]).max()
        # other processors and other pair lists sum in another order: 1e-11, not the 1e-12 of the same code.
        # A variance is what is left of the prior variance, here 0.02 of 1.4e6 eV^2: rounding is 2e-8 of it
        allowed = 1e-11 if name in ("energy", "forces", "stress") else 1e-7
        np.testing.assert_allclose(value, known[name], rtol=allowed, atol=allowed * size, err_msg=name)
    assert isinstance(gap.potential_.errors, FittedErrors)


def test_what_decides_comes_out_of_the_metadata():
    with zipfile.ZipFile(HERE / "format_1.model") as archive:
        header = json.loads(archive.read("header.json"))
    assert header["format_version"] == 1 and {"recalibration", "domain_variance", "noise"} <= set(header["metadata"])
    potential = gapkit.load(HERE / "format_1.model").potential_
    assert not {"recalibration", "domain_variance", "domain_energy_variance"} & set(potential.metadata)
    assert potential.domain.local_variance == header["metadata"]["domain_variance"]
    assert potential.noise_levels == header["metadata"]["noise"]


def test_a_model_of_format_1_can_be_updated(frame):
    gap = gapkit.load(HERE / "format_1.model")
    before = gap.predict([frame]).energy[0]
    labelled = frame.copy()
    labelled.info["energy"] = before + 0.5
    gap.update([labelled])
    assert before < gap.predict([frame]).energy[0] < before + 0.5
