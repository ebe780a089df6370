"""The command ``gapkit check``: contradictions among the labels of frames, or the soundness of a model file."""

from __future__ import annotations

import argparse
import zipfile


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``gapkit check``."""
    parser.add_argument("data", nargs="+", metavar="DATA.xyz|MODEL", help="labelled frames, or one model file")
    parser.add_argument("--config", metavar="FILE.toml", help="parameters of gapkit.GAP: label keys, e0, baseline")
    parser.add_argument("--json", metavar="FILE", help="write the report there")
    parser.add_argument("--plot", metavar="FILE.png", help="draw energies, forces, errors out of fold")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def run(options: argparse.Namespace) -> int:
    """Print the report; the exit code is 1 where something is suspicious."""
    from gapkit.cli.fit import read_config
    from gapkit.cli.outputs import output_path, picture_path, write_json
    from gapkit.estimators.check_labels import check_labels
    from gapkit.estimators.gap import GAP, load
    from gapkit.plotting import labels_figure
    from gapkit.structures.files import read_frames

    target = output_path(options.json) if options.json else None
    picture = picture_path(options.plot) if options.plot else None
    if len(options.data) == 1 and zipfile.is_zipfile(options.data[0]):
        gap = load(options.data[0])
        print(f"{gap.describe()}\nthe model file is sound: its digests, shapes and identities hold")
        if target:
            write_json(target, {"ok": True, "model": options.data[0], "metadata": gap.potential_.metadata})
        return 0
    gap = GAP(**(read_config(options.config) if options.config else {}))
    report = check_labels(read_frames(*options.data), gap, progress=not options.quiet)
    print(report)
    if target:
        write_json(target, report.as_dict())
        print(f"written: {target}")
    if picture:
        labels_figure(report, picture)
        print(f"written: {picture}")
    return 0 if report.ok else 1
