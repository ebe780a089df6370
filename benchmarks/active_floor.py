"""How much any choice of frames can gain over a random one in a pool: strategies that know the answers.

    python benchmarks/active_floor.py FRAMES.xyz [--sparse 900] [--seeds 3] [--labels 72] [--batch 4]

A fifth of the frames tests, the others are the pool. Sparse points come from all structures and levels from a fit
to all frames, so that only the choice of labels differs. ``random``; ``variance``: largest mean variance of forces;
``error``: largest true force error of the model so far (needs the labels of the pool); ``clairvoyant``: each frame is
tried, and those that lower the force error on the *test* frames most are taken. No strategy that knows structures alone
can be expected to beat the last two by much, so they say how few labels a pool could be learnt with.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
import scipy.linalg

import gapkit
from gapkit.fitting.training_set import in_order, training_set
from gapkit.models.observations import observations
from gapkit.structures.files import read_frames
from gapkit.structures.labels import labelled_frames


@dataclass
class Frame:
    """Rows of energies and forces divided by their noise, targets likewise, and which rows are forces."""

    A: np.ndarray
    y: np.ndarray
    force: np.ndarray


def rows_of(frames: list, n_sparse: int) -> tuple[list[Frame], float]:
    """Rows of every frame in the prior's units, and the force noise (eV/A)."""
    gap = gapkit.GAP(sparse=n_sparse, exact=False, random_state=0).fit(frames)
    basis, levels = gap.potential_.basis, gap._fit.levels
    signal = levels.signal[basis.column_terms()]
    data = in_order(training_set(labelled_frames(frames), "auto", None))
    made = []
    for frame, targets in zip(data.frames, data.targets, strict=True):
        if targets.isolated:
            continue
        rows = basis.rows(basis.structure(frame.atoms), prior=False)
        kept = [o for o in observations(targets, rows) if o.group in ("energy", "forces")]
        A = [basis.whiten(o.K) * signal / levels.noise[o.group] for o in kept]
        y = [o.y / levels.noise[o.group] for o in kept]
        force = [np.full(len(o.y), o.group == "forces") for o in kept]
        made.append(Frame(np.vstack(A), np.concatenate(y), np.concatenate(force)))
    return made, levels.noise["forces"]


def picks(strategy: str, pool: list[Frame], test: Frame, H: np.ndarray, u: np.ndarray, batch: int) -> list[int]:
    """Places in the pool of the next ``batch`` frames."""
    if strategy == "random":
        return list(range(batch))  # the pool is in random order
    if strategy == "error":
        score = [-np.mean((f.A[f.force] @ u - f.y[f.force]) ** 2) for f in pool]
    elif strategy == "variance":
        L = scipy.linalg.cholesky(H, lower=True)
        score = [-np.mean(scipy.linalg.solve_triangular(L, f.A[f.force].T, lower=True) ** 2) for f in pool]
    else:
        P = scipy.linalg.inv(H)
        moves, error, score = test.A @ P, test.A @ u - test.y, []
        for f in pool:
            Q = f.A @ P @ f.A.T
            Q[np.diag_indices_from(Q)] += 1.0
            step = f.A.T @ scipy.linalg.solve(Q, f.y - f.A @ u, assume_a="pos")
            score.append(float(np.mean((error + moves @ step) ** 2)))
    return [int(k) for k in np.argsort(score)[:batch]]


def curve(frames: list[Frame], strategy: str, seed: int, labels: int, batch: int, start: int = 8) -> np.ndarray:
    """Root-mean-square force error on the test frames (in units of the noise) at every number of labels."""
    order = np.random.default_rng(seed).permutation(len(frames))
    held = [frames[k] for k in order[: len(frames) // 5]]
    pool = [frames[k] for k in order[len(frames) // 5 :]]
    test = Frame(np.vstack([f.A[f.force] for f in held]), np.concatenate([f.y[f.force] for f in held]), np.ones(1))
    taken, pool = pool[:start], pool[start:]
    H, c, errors = np.eye(test.A.shape[1]), np.zeros(test.A.shape[1]), []
    while True:
        for f in taken:
            H += f.A.T @ f.A
            c += f.A.T @ f.y
        u = scipy.linalg.solve(H, c, assume_a="pos")
        errors.append(np.sqrt(np.mean((test.A @ u - test.y) ** 2)))
        if start + batch * (len(errors) - 1) >= labels:
            return np.array(errors)
        chosen = picks(strategy, pool, test, H, u, batch)
        taken = [pool[k] for k in chosen]
        pool = [f for k, f in enumerate(pool) if k not in set(chosen)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("frames", nargs="+")
    parser.add_argument("--sparse", type=int, default=900)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--labels", type=int, default=72)
    parser.add_argument("--batch", type=int, default=4)
    o = parser.parse_args()
    frames, noise = rows_of(read_frames(*o.frames), o.sparse)
    print(f"{'labels':<12}" + "".join(f"{n:>8}" for n in range(8, o.labels + 1, 2 * o.batch)))
    for strategy in ("random", "variance", "error", "clairvoyant"):
        curves = noise * np.array([curve(frames, strategy, seed, o.labels, o.batch) for seed in range(o.seeds)])
        mean, spread = curves.mean(axis=0), curves.std(axis=0, ddof=1) / np.sqrt(o.seeds)
        print(f"{strategy:<12}" + "".join(f"{v:>8.4f}" for v in mean[::2]), flush=True)
        print(f"{'  +-':<12}" + "".join(f"{v:>8.4f}" for v in spread[::2]), flush=True)


if __name__ == "__main__":
    main()
