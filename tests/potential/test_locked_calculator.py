"""Calculators that threads share give each thread the numbers of its own frame."""

import copy
import os
import pickle
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from ase.build import bulk, molecule

import gapkit
from gapkit.apps.fracture.cleaving_silicon import CleavingSilicon
from gapkit.potential.locked_calculator import OwnLock
from gapkit.potential.potential import Potential
from gapkit.sampling.biases import Biased, Distance, Harmonic


@pytest.fixture
def quick_switches():
    """Threads take turns as often as the interpreter can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def frames_of(symbol, n=6):
    frames = []
    for k in range(n):
        atoms = bulk(symbol, cubic=True)
        atoms.rattle(0.1, seed=k)
        frames.append(atoms)
    return frames


def in_threads(calculator, frames, right, n=240, threads=4):
    """Largest differences of energies and forces from the right ones, over many calls of threads that share it."""

    def differences(k):
        atoms = frames[k % len(frames)].copy()
        atoms.calc = calculator
        energy, forces = right[k % len(frames)]
        return abs(atoms.get_potential_energy() - energy), np.abs(atoms.get_forces() - forces).max()

    with ThreadPoolExecutor(threads) as pool:
        return np.max(list(pool.map(differences, range(n))), axis=0)


def single(make, frames):
    found = []
    for atoms in frames:
        alone = atoms.copy()
        alone.calc = make()
        found.append((alone.get_potential_energy(), alone.get_forces()))
    return found


@pytest.mark.parametrize("kind", ["gap", "local", "zbl", "silicon", "biased"])
def test_each_thread_gets_the_numbers_of_its_own_frame(gap, kind, quick_switches):
    make = {
        "gap": gap.calculator,
        "local": lambda: gap.calculator(uncertainty="local"),
        "zbl": lambda: gapkit.ZBL(r_cut=3.0, cutoff_width=1.0),
        "silicon": CleavingSilicon,
        "biased": lambda: Biased(gap.calculator(), [Harmonic(Distance(0, 1), centre=2.5, k=1.0)]),
    }[kind]
    frames = frames_of("Si" if kind == "silicon" else "Cu")
    right = single(make, frames)
    assert len({round(energy, 9) for energy, _ in right}) == len(frames)
    energy, forces = in_threads(make(), frames, right)
    assert energy < 1e-9
    assert forces < 1e-9


def test_biases_on_one_calculator_in_several_threads(gap, quick_switches, monkeypatch):
    inner = gap.calculator()
    inner_property = inner.get_property

    def slow(*arguments):  # between the property and what stands beside it in the results
        value = inner_property(*arguments)
        time.sleep(1e-3)
        return value

    monkeypatch.setattr(inner, "get_property", slow)
    frames = frames_of("Cu")

    def biased():
        return Biased(inner, [Harmonic(Distance(0, 1), centre=2.5, k=1.0)])

    right = single(biased, frames)
    own = {}

    def wrong(k):
        atoms = frames[k % 6].copy()
        atoms.calc = own.setdefault(threading.get_ident(), biased())
        forces = atoms.get_forces()
        free = atoms.get_potential_energy(force_consistent=True)
        return max(abs(free - right[k % 6][0]), np.abs(forces - right[k % 6][1]).max())

    with ThreadPoolExecutor(4) as pool:
        assert max(pool.map(wrong, range(48))) < 1e-9


def test_batches_of_one_function_in_several_threads(gap, quick_switches, monkeypatch):
    """Above 64 atoms pair lists are kept; with other numbers of copies they are made anew."""
    monkeypatch.setattr("gapkit.potential.calculator.SMALL", 0)
    atoms = frames_of("Cu", 1)[0]
    evaluate_copies = Potential.evaluate_copies

    def slow(self, frame, positions, lists):
        time.sleep(1e-3)  # in which another thread may change the lists
        return evaluate_copies(self, frame, positions, lists)

    monkeypatch.setattr(Potential, "evaluate_copies", slow)
    evaluate = gap.calculator().batch_forces(atoms)
    rng = np.random.default_rng(0)
    batches = [atoms.positions + rng.normal(scale=0.4, size=(1 + k % 3, len(atoms), 3)) for k in range(6)]
    right = [gap.calculator().batch_forces(atoms)(x) for x in batches]

    def wrong(k):
        energies, forces = evaluate(batches[k % 6])
        return max(np.abs(energies - right[k % 6][0]).max(), np.abs(forces - right[k % 6][1]).max())

    with ThreadPoolExecutor(4) as pool:
        assert max(pool.map(wrong, range(120))) < 1e-9


def test_deep_copies_have_locks_of_their_own(gap):
    atoms = molecule("CH4")
    atoms.symbols[:] = "Cu"
    calculator = gapkit.ZBL()
    atoms.calc = calculator
    energy = atoms.get_potential_energy()
    assert copy.copy(calculator).lock is calculator.lock  # they share pair lists, too
    for other in (copy.deepcopy(calculator), pickle.loads(pickle.dumps(calculator))):
        assert other.lock is not calculator.lock
        with calculator.lock, ThreadPoolExecutor(1) as pool:
            assert pool.submit(other.get_potential_energy, atoms).result(timeout=20) == pytest.approx(energy)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_does_not_wait_for_a_thread_of_its_parent():
    lock, held, done = OwnLock(), threading.Event(), threading.Event()

    def hold():
        with lock:
            held.set()
            done.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(20)
    child = os.fork()
    if child == 0:  # pragma: no cover - in another process
        threading.Timer(10, os._exit, (1,)).start()
        with lock:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    done.set()
    thread.join()
    assert os.waitstatus_to_exitcode(status) == 0
