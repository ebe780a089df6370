"""Pictures of vibrations: the spectrum of frequencies with error bars, and the split of their errors."""

from __future__ import annotations

import os

import numpy as np

from gapkit.apps.vibrational_spectra.run import VibrationsResult
from gapkit.plotting import BLUE, ORANGE, check_picture, new_figure, save_figure

#: width (cm^-1) that every mode is broadened by at least
WIDTH = 10.0


def vibrations_figure(result: VibrationsResult, path: str | os.PathLike) -> None:
    """Density of frequencies broadened by their error bars, and with a reference the split of the errors and the
    overlap of modes, as one picture file.

    Raises
    ------
    GapkitError
        Where the ending of ``path`` names no format of pictures.
    """
    check_picture(path)
    compared = result.diagnosis
    figure, (axes,) = new_figure(columns=1 if compared is None else 3)
    nu, std = result.frequencies, np.hypot(result.frequencies_std, WIDTH)
    x = np.linspace(0.0, nu.max() + 5 * std.max(), 2000)
    density = np.exp(-0.5 * ((x[:, None] - nu) / std) ** 2) / (std * np.sqrt(2 * np.pi))
    axes[0].fill_between(x, density.sum(axis=1), color=BLUE, alpha=0.3, lw=0)
    axes[0].plot(nu, np.zeros_like(nu), "|", ms=12, color=BLUE, label="potential")
    if compared is not None:
        axes[0].plot(compared.reference, np.zeros_like(nu), "|", ms=20, color=ORANGE, label="reference")
    axes[0].set(xlabel="frequency (cm$^{-1}$)", ylabel="modes per cm$^{-1}$, widths are error bars", ylim=(0, None))
    axes[0].legend(fontsize=8)
    if compared is not None:
        at = np.arange(len(nu))
        axes[1].bar(at - 0.2, compared.scaling, 0.4, color=BLUE, label="scale of the spring")
        axes[1].bar(at + 0.2, compared.mixing, 0.4, color=ORANGE, label="mixing of modes")
        axes[1].plot(at, compared.frequencies - compared.reference, "k_", ms=8, label="sum")
        axes[1].set(xlabel="mode of the reference", ylabel="error (cm$^{-1}$)")
        axes[1].legend(fontsize=8)
        image = axes[2].imshow(compared.overlap**2, cmap="Blues", vmin=0, vmax=1)
        axes[2].set(xlabel="mode of the potential", ylabel="mode of the reference", title="squared overlap")
        for axis in (axes[2].xaxis, axes[2].yaxis):
            axis.get_major_locator().set_params(integer=True)
        figure.colorbar(image, ax=axes[2], shrink=0.8)
    save_figure(figure, path)
