"""Mechanisms from literature that come with gapkit."""

from __future__ import annotations

import tomllib

from gapkit import datasets
from gapkit.apps.kinetics.mechanism import Mechanism
from gapkit.exceptions import SettingsError

#: names of the files in data/mechanisms
MECHANISMS = ("co_oxidation",)


def load_mechanism(name: str) -> Mechanism:
    """Mechanism from literature, by name; its file in ``data/mechanisms`` gives the source of every number.

    Parameters
    ----------
    name
        ``"co_oxidation"``: CO oxidation on Pt(111) by the scaling relations of Falsig et al., Angew. Chem. Int. Ed. 47,
        4835 (2008). The gases are ``CO``, ``O2`` and ``CO2``.

    Raises
    ------
    SettingsError
        For another name.
    DataError
        Where this installation lacks the file.

    Examples
    --------
    >>> mechanism = load_mechanism("co_oxidation")
    >>> [r.equation for r in mechanism.reactions][-1]
    'CO* + O* <-> CO2 + 2 *'
    """
    if name not in MECHANISMS:
        raise SettingsError(f"there is no mechanism {name!r}: choose one of {', '.join(MECHANISMS)}")
    return Mechanism.from_dict(tomllib.loads(datasets.data_file("mechanisms", f"{name}.toml")))
