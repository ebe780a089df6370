"""Fingerprints: equal in another process, different for whatever changes a result."""

import json
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones

import gapkit
from gapkit.checkpoints import differences
from gapkit.fingerprints import described, oracle_description, run_fingerprint
from gapkit.oracles import oracle
from gapkit.structures.labels import labelled_frames
from tests.conftest import copper_frames, small_gap


class Quiet:
    """An object that states nothing of itself."""


VALUES = {
    "numbers": [1, np.int64(2), 0.1, np.float32(0.5), True, np.bool_(False), None, float("nan")],
    "terms": small_gap().terms,
    "words": {"b": {1, 2}, "a": ("x", b"y".decode())},
    "frames": [Atoms("Cu2", positions=[[0, 0, 0], [0, 0, 2.5]])] * 60,
    "calculators": [EMT(), LennardJones(sigma=2.0), gapkit.ZBL(r_cut=1.5), Quiet()],
    "functions": [partial(oracle, "emt"), len, np.linalg.norm, copper_frames, EMT],
    "random": np.random.default_rng(3),
}


def test_descriptions_are_json_and_equal_in_another_process():
    here = described(VALUES)
    assert json.loads(json.dumps(here)) == here
    code = "import json; from tests.test_fingerprints import *; print(json.dumps(described(VALUES)))"
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(there.stdout) == here


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (1, 2),
        (1.0, np.nextafter(1.0, 2.0)),
        (np.zeros(2), np.zeros((2, 1))),
        (np.zeros(2), np.zeros(2, dtype=int)),
        ([1, 2], [2, 1]),
        (list(range(99)), list(range(1, 100))),
        (LennardJones(sigma=2.0), LennardJones(sigma=2.5)),
        (gapkit.ZBL(r_cut=1.5), gapkit.ZBL(r_cut=1.6)),
        (partial(oracle, "emt"), partial(oracle, "gfn2")),
        (Atoms("Cu", positions=[[0, 0, 0]]), Atoms("Cu", positions=[[0, 0, 1e-12]])),
        (gapkit.SOAP(r_cut=4.0), gapkit.SOAP(r_cut=4.1)),
        (gapkit.DotProduct(2), gapkit.DotProduct(4)),
        (np.random.default_rng(0), np.random.default_rng(1)),
    ],
)
def test_descriptions_differ_where_values_do(one, two):
    assert described(one) != described(two)
    assert described(one) == described(one)


def test_a_model_that_labels_is_told_from_another_model(gap, train):
    other = small_gap(noise_levels={"energy": 0.1, "forces": 0.1, "virial": 0.1}).fit(train)
    assert described(gap.calculator()) != described(other.calculator())
    assert described(gap.calculator()) == described(gap.calculator(uncertainty="local"))


def test_an_oracle_is_described_by_its_class_and_parameters_but_not_by_its_folder():
    assert oracle_description(lambda: LennardJones(sigma=2.0)) != oracle_description(lambda: LennardJones(sigma=2.5))
    assert oracle_description(lambda: LennardJones()) != oracle_description(lambda: EMT())
    assert oracle_description(lambda: EMT(directory="a")) == oracle_description(lambda: EMT(directory="b"))

    def missing():
        raise ImportError

    assert list(oracle_description(missing)) == ["made by"]


CHANGES = {
    "frames": lambda a: a.positions.__setitem__((0, 0), a.positions[0, 0] + 1e-9),
    "labels": lambda a: a.calc.results["forces"].__setitem__((0, 0), 1.0),
}


@pytest.mark.parametrize("name", CHANGES)
def test_frames_and_labels_are_told_apart(name):
    frames = copper_frames(3, seed=0)
    before = run_fingerprint(labelled_frames(frames), {"n_jobs": 1, "folds": 3})
    changed = copper_frames(3, seed=0)
    changed[1].calc.atoms = None
    CHANGES[name](changed[1])
    changed[1].calc.atoms = changed[1].copy()
    assert differences(before, run_fingerprint(labelled_frames(changed), {"n_jobs": 2, "folds": 3})) == [name]
    assert differences(before, run_fingerprint(labelled_frames(frames), {"folds": 4})) == ["settings (folds)"]


def test_groups_of_frames_count_and_their_names_do_not():
    def with_names(*names):
        frames = copper_frames(3, seed=0)
        for atoms, name in zip(frames, names, strict=True):
            atoms.info["trajectory"] = name
        return run_fingerprint(labelled_frames(frames), {})

    assert with_names("a", "b", "a") == with_names("x", "y", "x")
    assert differences(with_names("a", "b", "a"), with_names("a", "b", "b")) == ["labels"]
