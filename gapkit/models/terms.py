"""Terms of the energy: a descriptor, a kernel, and how many sparse points."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from numbers import Integral
from typing import Any

from gapkit.descriptors import Descriptor
from gapkit.descriptors.base import DESCRIPTORS
from gapkit.exceptions import SettingsError
from gapkit.kernels import DotProduct, Kernel, SquaredExponential
from gapkit.models.sparse_points import Selection, selection

#: settings of a term that are neither its descriptor's nor its kernel's
OF_TERM = ("n_sparse", "selection", "signal", "projection", "stratified")


@dataclass(frozen=True, eq=False)
class Term:
    """Term of the energy: a sum over environments, by a descriptor, a kernel and sparse points.

    Attributes
    ----------
    descriptor, kernel
        For example ``SOAP(r_cut=5)`` with ``DotProduct(zeta=4)``; pair distances and triplets take
        ``SquaredExponential``, whose length scales are in the descriptor's units.
    n_sparse
        Number of sparse points, shared among the descriptor's channels in proportion to the square root of the
        training environments of each, with at least ten for a channel (so a small number may be exceeded).
    selection
        ``"greedy"``, ``"leverage"``, ``"cur"``, ``"fps"``, ``"random"``, or an object of
        ``gapkit.models.sparse_points``.
    signal
        Prior standard deviation of the term's local function (eV); None: from held-out error.
    projection
        Number of directions that unit SOAP vectors are projected on before the fit (``gapkit.models.projection``),
        for each channel; ``"auto"``: as many as leave the errors as they are; None: no projection. For dot-product
        kernels only.
    stratified
        Whether every config_type of the training frames gets sparse points of its own, in proportion to the square
        root of its environments, so that rare ones (surfaces, defects) are not starved.

    Examples
    --------
    >>> import gapkit
    >>> term = gapkit.Term(gapkit.SOAP(r_cut=5.0), gapkit.DotProduct(4), n_sparse=500, projection="auto")
    >>> term.settings()["zeta"], term.settings()["n_sparse"]
    (4, 500)
    """

    descriptor: Descriptor
    kernel: Kernel
    n_sparse: int = 1000
    selection: str | Selection = "greedy"
    signal: float | None = None
    projection: int | str | None = None
    stratified: bool = False

    def __post_init__(self) -> None:
        self._check_projection()
        if self.n_sparse < 1:
            raise SettingsError(f"n_sparse must be at least 1, not {self.n_sparse}")
        if self.signal is not None and not self.signal > 0:
            raise SettingsError(f"signal must be positive (eV), not {self.signal}")
        selection(self.selection)

    def _compared(self) -> tuple[Any, ...]:
        values = tuple(getattr(self, f.name) for f in fields(self) if f.name != "descriptor")
        return type(self.descriptor), self.descriptor.settings(), values

    def __eq__(self, other: object) -> bool:
        """Whether all settings are equal; species that a fit adds to the descriptor do not count."""
        return self._compared() == other._compared() if isinstance(other, Term) else NotImplemented

    def __hash__(self) -> int:
        return hash((type(self.descriptor), self.kernel, self.n_sparse))

    def _check_projection(self) -> None:
        if self.projection is None:
            return
        if self.kernel.centred or not self.descriptor.of_atoms:
            raise SettingsError("projection is for SOAP with a dot-product kernel; leave it out of other terms")
        whole = isinstance(self.projection, Integral) and not isinstance(self.projection, bool)
        if self.projection != "auto" and not (whole and int(self.projection) >= 1):
            raise SettingsError(f"projection must be 'auto', None or a number of directions, not {self.projection!r}")

    def with_descriptor(self, descriptor: Descriptor) -> Term:
        """Copy of the term with another descriptor."""
        return replace(self, descriptor=descriptor)

    def settings(self) -> dict[str, Any]:
        """JSON-ready description of the term; :func:`term_from_settings` makes the term again."""
        settings = self.descriptor.settings()
        if isinstance(self.kernel, DotProduct):
            settings["zeta"] = self.kernel.zeta
        elif isinstance(self.kernel, SquaredExponential):
            settings["length_scale"] = self.kernel.length_scale
        else:
            raise SettingsError(f"a kernel of type {type(self.kernel).__name__} cannot be stored in a file")
        settings["n_sparse"] = self.n_sparse
        settings["selection"] = self.selection if isinstance(self.selection, str) else "custom"
        settings["signal"] = self.signal
        settings["projection"] = self.projection
        settings["stratified"] = self.stratified
        return settings


def term_from_settings(settings: Mapping[str, Any]) -> Term:
    """A term from a table such as ``{"name": "soap", "r_cut": 5.0, "zeta": 4, "n_sparse": 800}``.

    Raises
    ------
    SettingsError
        For an unknown name or key.

    Examples
    --------
    >>> term_from_settings({"name": "pair", "r_cut": 4.0, "length_scale": 0.6, "n_sparse": 20}).kernel
    SquaredExponential(length_scale=0.6)
    """
    known = dict(settings)
    name = known.pop("name", None)
    if name not in DESCRIPTORS:
        raise SettingsError(f"a term's name must be one of {', '.join(DESCRIPTORS)}, not {name!r}")
    of_term = {key: known.pop(key) for key in OF_TERM if key in known}
    if of_term.get("selection") == "custom":
        del of_term["selection"]
    if "zeta" in known and "length_scale" in known:
        raise SettingsError(
            f"term {name!r}: give zeta (dot-product kernel) or length_scale (squared exponential), not both"
        )
    kernel: Kernel
    if "zeta" in known or (DESCRIPTORS[name].of_atoms and "length_scale" not in known):
        kernel = DotProduct(known.pop("zeta", 4))
    else:
        length = known.pop("length_scale", 1.0)
        kernel = SquaredExponential(tuple(length) if isinstance(length, list | tuple) else length)
    try:
        descriptor = DESCRIPTORS[name](**known)
    except TypeError as error:
        raise SettingsError(f"term {name!r}: {error}") from None
    return Term(descriptor, kernel, **of_term)
