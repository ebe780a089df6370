"""Dot-product kernels."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real

from gapkit.exceptions import SettingsError
from gapkit.kernels.base import Kernel
from gapkit.numerics import kernel_functions


@dataclass(frozen=True)
class DotProduct(Kernel):
    r"""Power of the dot product, :math:`k(x, x') = (x \cdot x')^\zeta`.

    On normalised SOAP vectors this is the SOAP kernel of Bartok, Kondor and Csanyi, Phys. Rev. B 87, 184115
    (2013), eq. 36. It lies between 0 and 1 there and never decays to zero far from the data, because all
    power-spectrum vectors point into one cone.

    Parameters
    ----------
    zeta
        Power, an integer of at least 1. Larger powers separate similar environments more sharply.

    Examples
    --------
    >>> import gapkit
    >>> import numpy as np
    >>> kernel = gapkit.DotProduct(zeta=2)
    >>> kernel(np.array([[1.0, 0.0]]), np.array([[0.6, 0.8], [0.0, 1.0]])).round(6)
    array([[0.36, 0.  ]])
    """

    zeta: int = 4

    def __post_init__(self) -> None:
        if not isinstance(self.zeta, Real) or int(self.zeta) != self.zeta or self.zeta < 1:
            raise SettingsError(f"zeta must be an integer of at least 1, not {self.zeta!r}")

    @property
    def function(self) -> int:
        return kernel_functions.POWER

    @property
    def parameter(self) -> int:
        return int(self.zeta)

    @property
    def centred(self) -> bool:
        return False
