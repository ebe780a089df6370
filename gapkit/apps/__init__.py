"""Applications, one package each, in the order of the chapter.

- ``transferability``: does a potential carry beyond its training set, and does it say where it fails?
- ``growth``: surface science and growth, from barriers of single hops to a growing surface.
- ``fracture``: materials failure, from the stress around a bond to critical loads and crack paths.
- ``kinetics``: barriers, rates, and what a network of reactions makes of their errors.
- ``ion_transport``: diffusion, conductivity and activation energies.
- ``vibrational_spectra``: frequencies with error bars, and which springs or modes are wrong.

All questions have one shape: ``XSettings``, ``run_x(..., settings=None, *, random_state=None, progress=False)``,
``XResult`` and ``x_figure(result, path)``. Each package has toys with closed-form answers, a page and a command.
"""

from __future__ import annotations

from types import ModuleType

from gapkit.submodules import public_modules, submodule


def __getattr__(name: str) -> ModuleType:
    return submodule(__name__, __path__, name)


def __dir__() -> list[str]:
    return public_modules(__path__)
