"""Parameters of ``gapkit.GAP`` as a model file keeps them, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gapkit.models.terms import Term, term_from_settings
from gapkit.potential.potential import Potential


def stored(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """JSON-ready parameters. Generators of random numbers and selections that are functions are left out, and so are
    baselines that are calculators: the user gives those again."""
    kept = dict(parameters)
    terms, baseline, e0 = kept["terms"], kept["baseline"], kept["e0"]
    kept["terms"] = terms if isinstance(terms, str) else [_stored_term(t) for t in terms]
    if not isinstance(baseline, str | Mapping):
        del kept["baseline"]
    if isinstance(e0, Mapping):
        kept["e0"] = [[k if isinstance(k, str) else int(k), float(v)] for k, v in e0.items()]
    if isinstance(kept["sparse"], Mapping):
        kept["sparse"] = {k: v for k, v in kept["sparse"].items() if not callable(v)}
    seed = kept["random_state"]
    kept["random_state"] = int(seed) if isinstance(seed, int | np.integer) else None
    return kept


def _stored_term(term: Any) -> dict[str, Any]:
    return {"term": term.settings()} if isinstance(term, Term) else dict(term)


def restored(settings: Mapping[str, Any], potential: Potential) -> dict[str, Any]:
    """Parameters from :func:`stored`; those that a file does not keep are taken from the ``potential``."""
    given = dict(settings)
    if "noise" in given:  # the name in files of older versions
        given["noise_levels"] = given.pop("noise")
    terms = given.get("terms", list(potential.terms))
    if not isinstance(terms, str):
        terms = [term_from_settings(t["term"]) if isinstance(t, Mapping) and "term" in t else t for t in terms]
    given["terms"] = terms
    given.setdefault("baseline", potential.baseline)
    if isinstance(given.get("e0"), list):
        given["e0"] = dict(given["e0"])
    return given
