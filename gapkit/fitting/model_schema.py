"""The schema of a model file's header: every key, its type and its range. No default stands in for a missing key.

A check is a function of a value and of its place in the header, which raises ValueError with that place. The metadata
describe a model and may hold more than is named here; of every other table all keys are known.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

from ase.data import chemical_symbols

from gapkit.models.levels import kind_of
from gapkit.models.observations import ISOLATED
from gapkit.uncertainty.label_errors import KINDS

UNITS = {"energy": "eV", "length": "A", "force": "eV/A", "virial": "eV", "stress": "eV/A^3"}

Check = Callable[[Any, str], None]

#: numbers beyond it are no energies, lengths or variances; their squares would overflow
LARGEST = 1e100
#: cutoffs beyond it (A) would never end
LONGEST_CUTOFF = 50.0
#: fewest length scales in a cutoff would make tables beyond all memory
LARGEST_SPAN = 3000.0
LARGEST_POWER = 100
#: most radial functions and highest angular momentum that tables are made for
FINEST = 12


def number(low: float = -LARGEST, high: float = LARGEST, above: bool = False, nan: bool = False) -> Check:
    """Check of a number from ``low`` (``above``: beyond it) to ``high``; ``nan``: NaN is allowed."""

    def check(value: Any, context: str) -> None:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if is_number and nan and value != value:
            return
        if not is_number or not low <= value <= high or (above and value == low):
            raise ValueError(
                f"{context} is {value!r:.40}, not a number {'above' if above else 'from'} {low:g} to {high:g}"
            )

    return check


def whole(low: int, high: int = 2**53) -> Check:
    """Check of a whole number from ``low`` to ``high``."""

    def check(value: Any, context: str) -> None:
        if type(value) is not int or not low <= value <= high:
            raise ValueError(f"{context} is {value!r:.40}, not a whole number from {low} to {high}")

    return check


def text(longest: int = 1000) -> Check:
    """Check of a text."""

    def check(value: Any, context: str) -> None:
        if not isinstance(value, str) or len(value) > longest:
            raise ValueError(f"{context} is {value!r:.40}, not a text of at most {longest} characters")

    return check


def one_of(*values: Any) -> Check:
    """Check of a value against a few allowed ones."""

    def check(value: Any, context: str) -> None:
        if not any(value == v and type(value) is type(v) for v in values):
            raise ValueError(f"{context} is {value!r:.40}, not {' or '.join(map(repr, values))}")

    return check


def maybe(of: Check) -> Check:
    """Check of a value that may be None, else by ``of``."""

    def check(value: Any, context: str) -> None:
        if value is not None:
            of(value, context)

    return check


def items(of: Check, least: int = 0) -> Check:
    """Check of a list, item by item."""

    def check(value: Any, context: str) -> None:
        if not isinstance(value, list) or len(value) < least:
            raise ValueError(f"{context} is {value!r:.40}, not a list of at least {least}")
        for k, v in enumerate(value):
            of(v, f"{context}[{k}]")

    return check


def table(required: Mapping[str, Check], optional: Mapping[str, Check] | None = None, more: bool = False) -> Check:
    """Check of a table with these keys; ``more``: others are allowed."""
    known = {**required, **(optional or {})}

    def check(value: Any, context: str) -> None:
        if not isinstance(value, dict):
            raise ValueError(f"{context} is {value!r:.40}, not a table")
        missing = [key for key in required if key not in value]
        if missing:
            raise ValueError(f"{context} has no {missing[0]!r}")
        for key, v in value.items():
            if key in known:
                known[key](v, f"{context}.{key}" if context != "the header" else key)
            elif not more:
                raise ValueError(f"{context} has the unknown key {key!r:.40}")

    return check


def mapping(of_key: Check, of_value: Check, least: int = 0) -> Check:
    """Check of a table whose keys, and whose values, are of one kind each."""

    def check(value: Any, context: str) -> None:
        if not isinstance(value, dict) or len(value) < least:
            raise ValueError(f"{context} is {value!r:.40}, not a table of at least {least}")
        for key, v in value.items():
            of_key(key, f"a key of {context}")
            of_value(v, f"{context}.{key:.40}")

    return check


def atomic_number(value: Any, context: str) -> None:
    """An atomic number, as the keys of tables are texts."""
    if not (isinstance(value, str) and value.isascii() and value.isdigit() and str(int(value[:4])) == value):
        raise ValueError(f"{context} is {value!r:.40}, not an atomic number")
    whole(1, len(chemical_symbols) - 1)(int(value), context)


def noise_group(value: Any, context: str) -> None:
    """The name of a noise group, as ``forces:liquid``."""
    if not isinstance(value, str) or kind_of(value) not in (*KINDS, ISOLATED):
        raise ValueError(f"{context} is {value!r:.40}, not a label kind ({', '.join(KINDS)})")


def any_table(value: Any, context: str) -> None:
    """Check of a table whose content its owner checks."""
    table({}, more=True)(value, context)


positive = number(0.0, above=True)
at_least_zero = number(0.0)
species = whole(1, len(chemical_symbols) - 1)


def term(value: Any, context: str) -> None:
    """Settings of a term: ranges here; that they are all there, ``model_identities.check_terms`` finds out."""
    cutoff = number(0.0, LONGEST_CUTOFF, above=True)
    table(
        {
            "name": text(100),
            "r_cut": cutoff,
            "n_sparse": whole(1),
            "selection": text(),
            "signal": maybe(positive),
            "projection": maybe(_projection),
            "stratified": one_of(True, False),
        },
        {
            "cutoff_width": cutoff,
            "n_max": whole(1, FINEST),
            "l_max": whole(0, FINEST),
            "sigma": positive,
            "cutoff_power": whole(1, LARGEST_POWER),
            "compression": text(100),
            "zeta": _power,
            "length_scale": _length_scale,
        },
        more=True,
    )(value, context)
    if ("zeta" in value) == ("length_scale" in value):
        raise ValueError(f"{context} has not one of zeta and length_scale")
    scales = value.get("length_scale", value["r_cut"])
    shortest = min(scales) if isinstance(scales, list) else scales
    if not value["r_cut"] <= LARGEST_SPAN * shortest:
        raise ValueError(f"{context}.length_scale is {shortest:g}, too short for the cutoff {value['r_cut']:g}")


def _projection(value: Any, context: str) -> None:
    one_of("auto")(value, context) if isinstance(value, str) else whole(1)(value, context)


def _power(value: Any, context: str) -> None:
    number(1, LARGEST_POWER)(value, context)
    if value != int(value):
        raise ValueError(f"{context} is {value!r:.40}, not a whole number")


def _length_scale(value: Any, context: str) -> None:
    items(positive, 1)(value, context) if isinstance(value, list) else positive(value, context)


def baseline(value: Any, context: str) -> None:
    """The ZBL repulsion, or the class of a calculator that a file cannot hold."""
    any_table(value, context)
    name = value.get("name")
    if name == "zbl":
        cutoff = number(0.0, LONGEST_CUTOFF, above=True)
        table({"name": text(), "r_cut": cutoff, "cutoff_width": cutoff})(value, context)
    elif name == "calculator":
        table({"name": text(), "class": text(100)})(value, context)
    else:
        raise ValueError(f"{context} is of the unknown name {name!r:.40}")


def error_models(newest: bool) -> Check:
    """Error models by label kind; files before format 4 may lack ``hidden_limit``, and some of it ``farthest``."""
    limit, farthest = {"hidden_limit": maybe(at_least_zero)}, {"farthest": maybe(at_least_zero)}
    names = ("floor", "factor", "residual_weight", "symmetry")
    model = {
        **dict.fromkeys(names, at_least_zero),
        "power": number(0.0, 10.0),
        "reference": positive,
        "n": whole(0),
    }
    required, optional = ({**model, **limit}, farthest) if newest else (model, {**limit, **farthest})
    return mapping(one_of(*KINDS), table(required, optional))


def conformal(value: Any, context: str) -> None:
    """Check of sorted conformal scores."""
    table({"scores": items(at_least_zero), "n_frames": whole(1)})(value, context)
    scores = value["scores"]
    if any(a > b for a, b in pairwise(scores)):
        raise ValueError(f"{context}.scores are not sorted")


def metadata(value: Any, context: str) -> None:
    """Check of the metadata of a model: entries that ``GAP.describe`` and cards read have the expected types."""
    count, named = whole(0), mapping(text(), at_least_zero)
    label = {"frame": count, "kind": one_of(*KINDS), "place": text(), "z": number()}
    search_summary = {
        "dropped_terms": items(text()),
        "shapes": maybe(items(items(_name_or_number, 2))),
        "noise_errors": any_table,
        "signal_errors": any_table,
    }
    table(
        {
            "n_frames": count,
            "n_atoms": count,
            "n_labels": count,
            "species": items(text(3), 1),
            "config_types": mapping(text(), count),
            "training_hash": text(64),
            "n_sparse": count,
            "noise": mapping(noise_group, positive),
            "signal": items(positive),
            "held_out_rmse": named,
        },
        {
            "updates": count,
            "levels": table({}, search_summary, more=True),
            "screened": items(table({**label, "label": number(), "expected": number()})),
            "domain": any_table,
        },
        more=True,
    )(value, context)


def _name_or_number(value: Any, context: str) -> None:
    text()(value, context) if isinstance(value, str) else number()(value, context)


def header(value: dict[str, Any], version: int) -> None:
    """Check the header of a file of format ``version``; format 1 as ``model_file`` upgrades it.

    Raises
    ------
    ValueError
        For a missing or unknown key, or a value of another type or out of range, with its place.
    """
    newest = version >= 4
    levels = {"noise": mapping(noise_group, positive), "objective": maybe(number())}
    triangle = {
        "group": noise_group,
        "fold": whole(-1, 10**6),
        "n_rows": whole(0),
        "log_scale": number(),
        "prior": items(at_least_zero),
    }
    calibrated = {"noise": at_least_zero, "residual_scale": at_least_zero, "weight_scale": at_least_zero}
    rmse = {"held_out_rmse": number(0.0, nan=True)}
    group = table({**calibrated, **rmse} if newest else calibrated, None if newest else rmse)
    recalibration = {
        "models": error_models(newest),
        "interval_models": error_models(newest),
        "conformal": mapping(one_of(*KINDS), conformal),
        "n_frames": whole(0),
    }
    of_species = mapping(atomic_number, at_least_zero)
    combination = {"weights": mapping(atomic_number, number(-1.0, 1.0), 1), "std": at_least_zero}
    required: dict[str, Check] = {
        "format": text(100),
        "format_version": whole(1, 100),
        "gapkit_version": text(100),
        "units": table({name: one_of(unit) for name, unit in UNITS.items()}),
        "species": items(species, 1),
        "terms": items(term, 1),
        "blocks": items(table({"term": whole(0), "channel": items(species, 1), "jitter": positive}), 1),
        "signal": items(positive, 1),
        "reference": table(
            {"values": mapping(atomic_number, number()), "source": mapping(atomic_number, text())},
            {"alone": of_species, "bonded": of_species, "open": items(table(combination))},
        ),
        "baseline": maybe(baseline),
        "calibration": table(
            {
                "groups": mapping(noise_group, group, 1),
                "residual_scale": at_least_zero,
                "weight_scale": at_least_zero,
            }
        ),
        "recalibration": maybe(table(recalibration)),
        "domain": table({"local_variance": number(0.0, math.inf, above=True), "energy_variance": maybe(positive)}),
        "noise_levels": mapping(noise_group, positive, 1),
        "metadata": metadata,
        "estimator": table({}, {"n_jobs": maybe(whole(-(2**20), 2**20))}, more=True),
    }
    if newest:
        required["digests"] = any_table
    table(required, {"levels": table(levels), "triangles": items(table(triangle))})(value, "the header")
    if ("levels" in value) != ("triangles" in value):
        raise ValueError("the header has only one of levels and triangles")
    _check_together(value)


def _check_together(value: dict[str, Any]) -> None:
    """Raise ValueError where two parts of a header contradict each other."""
    meta, levels = value["metadata"], value["noise_levels"]
    known, groups = set(value["species"]), value["calibration"]["groups"]
    reference = value["reference"]
    open_species = {z for c in reference.get("open", ()) for z in c["weights"]} | set(reference.get("alone", {}))
    wrong = {
        "species are not sorted": sorted(known) != value["species"],
        "there is not one signal per term": len(value["signal"]) != len(value["terms"]),
        "a block is of no term": any(b["term"] >= len(value["terms"]) for b in value["blocks"]),
        "what is open of reference energies is of other species": not open_species <= set(reference["values"])
        or set(reference.get("alone", {})) != set(reference.get("bonded", {})),
        "a species has no reference energy": not known <= {int(z) for z in value["reference"]["values"]},
        "metadata.species are others": meta["species"] != [chemical_symbols[z] for z in value["species"]],
        "metadata.signal are others": meta["signal"] != value["signal"],
        "metadata.noise are others": any(levels.get(g) != s for g, s in meta["noise"].items()),
        "noise levels and calibration are of other groups": set(groups) != set(meta["noise"]),
        "noise levels are of groups without frames": not meta.get("updates") and set(levels) != set(groups),
    }
    of_triangles = value.get("levels", {}).get("noise", levels)
    wrong["the levels' noise are others"] = of_triangles != levels
    keys = [(t["group"], t["fold"]) for t in value.get("triangles", [])]
    wrong["a triangle stands twice"] = len(set(keys)) < len(keys)
    wrong["a triangle is of no noise group"] = not {g for g, _ in keys} <= set(levels)
    wrong["a triangle has not one prior per term"] = any(
        len(t["prior"]) != len(value["terms"]) for t in value.get("triangles", [])
    )
    for reason, holds in wrong.items():
        if holds:
            raise ValueError(reason)
