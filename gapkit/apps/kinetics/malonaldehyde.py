"""The network of malonaldehyde: two tautomers with four rotamers each, joined by the transfer of a proton.

The bundled set :func:`gapkit.datasets.load_malonaldehyde` has the frames. States of the second tautomer are the mirror
images of those of the first and have a prime in their name: their energies are equal, and so are their errors.
"""

from __future__ import annotations

from collections.abc import Sequence

import ase

from gapkit.apps.kinetics.from_frames import SaddleFrame
from gapkit.exceptions import DataError

#: steps of one tautomer: first minimum, last minimum
STEPS = {
    "proton_transfer": ("chelate", "chelate'"),
    "aldehyde_of_chelate": ("chelate", "open_aldehyde"),
    "hydroxyl_of_chelate": ("chelate", "open_hydroxyl"),
    "hydroxyl": ("open_aldehyde", "open"),
    "aldehyde": ("open_hydroxyl", "open"),
}
#: order of the atoms (O C C C O H H H H, the proton last) in the mirror image
MIRROR = [4, 3, 2, 1, 0, 7, 6, 5, 8]


def mirrored(atoms: ase.Atoms) -> ase.Atoms:
    """Mirror image of a frame, which is the other tautomer, with the atoms in the order of the frame."""
    return ase.Atoms(atoms.symbols, (atoms.positions * (-1, 1, 1))[MIRROR])


def network(frames: Sequence[ase.Atoms]) -> tuple[dict[str, ase.Atoms], dict[str, SaddleFrame]]:
    """Minima and saddles of both tautomers, for :func:`gapkit.apps.kinetics.from_frames.mechanism_from_frames`.

    Parameters
    ----------
    frames
        Frames of the bundled set; of each stationary point the last that ``config_type`` and ``step`` name is taken.

    Raises
    ------
    DataError
        Where one is missing.
    """
    found = {
        (a.info["config_type"], a.info["step"]): ase.Atoms(a.symbols, a.positions)
        for a in sorted(frames, key=lambda a: a.info.get("round", 0))
        if a.info.get("config_type") in ("minimum", "saddle")
    }
    wells = [name for pair in list(STEPS.values())[1:] for name in pair]
    wanted = [("minimum", name) for name in dict.fromkeys(wells)] + [("saddle", name) for name in STEPS]
    missing = [" ".join(key) for key in wanted if key not in found]
    if missing:
        raise DataError(f"the frames have no {', '.join(missing)}")
    minima = {name: found["minimum", name] for name in dict.fromkeys(wells)}
    minima |= {f"{name}'": mirrored(atoms) for name, atoms in minima.items()}
    saddles = {"proton_transfer": SaddleFrame(*STEPS["proton_transfer"], found["saddle", "proton_transfer"])}
    for name, (first, last) in list(STEPS.items())[1:]:
        # the group may turn to either side of the plane
        top = found["saddle", name]
        saddles[name] = SaddleFrame(first, last, top, 2.0)
        saddles[f"{name}'"] = SaddleFrame(f"{first}'", f"{last}'", mirrored(top), 2.0)
    return minima, saddles
