"""The command ``gapkit quickstart``: the bundled silicon example."""

from __future__ import annotations

import argparse

#: sparse points: a fit by defaults takes more, asks the data for cutoff and resolution too, and takes minutes
SPARSE = 600


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``gapkit quickstart``."""
    parser.add_argument("-o", "--output", default="gapkit-quickstart", help="folder for model and picture")
    parser.add_argument("--steps", type=int, default=500, help="steps of molecular dynamics (1 fs)")


def run(options: argparse.Namespace) -> None:
    """Fit the bundled silicon frames, test the potential on held-out ones, draw the errors, and run dynamics."""
    from ase.build import bulk

    from gapkit.cli.outputs import output_folder
    from gapkit.datasets import load_silicon
    from gapkit.estimators.gap import GAP
    from gapkit.exceptions import SettingsError
    from gapkit.plotting import report_figure
    from gapkit.progress import progress_bar
    from gapkit.sampling.dynamics import run_md

    if options.steps < 1:
        raise SettingsError(f"steps must be at least 1, not {options.steps}")
    train, test = load_silicon(split="train"), load_silicon(split="test")
    folder = output_folder(options.output)
    print(f"silicon, DFT labels: {len(train)} training frames, {len(test)} held-out frames; {SPARSE} sparse points")
    gap = GAP(sparse=SPARSE, random_state=0).fit(train, progress=True)
    gap.save(folder / "silicon.gapkit")
    report = gap.evaluate(test, progress=True)
    print(f"\nheld-out frames (z: root mean square of error over predicted error, 1 is honest)\n{report}\n")
    report_figure(report, folder / "silicon.png", "silicon, held-out frames against DFT")
    atoms = bulk("Si", cubic=True) * (2, 2, 2)
    with progress_bar(desc="dynamics", total=options.steps, show=True) as progress:
        run = run_md(
            atoms, gap.calculator(), 600.0, options.steps, random_state=0,
            step_callback=lambda step: progress.update(step - progress.n),
        )  # fmt: skip
    print(
        f"64 atoms, {run.time[-1] / 1e3:.1f} ps of NVE dynamics at {run.temperature.mean():.0f} K: "
        f"total energy drifts by {1e3 * run.drift:.4f} meV/atom"
    )
    print(f"model: {folder / 'silicon.gapkit'}   picture: {folder / 'silicon.png'}")
