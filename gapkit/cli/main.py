"""Arguments in, one public function called, results out."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from gapkit.exceptions import CompilationWarning, GapkitError, GapkitWarning


class _Parser(argparse.ArgumentParser):
    """Errors on one line, exit code 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"gapkit: error: {message} (see {self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="gapkit", description="Kernel-based interatomic potentials with error bars.")
    parser.add_argument("--version", action="store_true", help="print the version and stop")
    commands = parser.add_subparsers(dest="command", parser_class=_Parser)

    quickstart = commands.add_parser("quickstart", help="fit, test and run the bundled silicon example")
    quickstart.add_argument("-o", "--output", default="gapkit-quickstart", help="folder for model and picture")
    quickstart.add_argument("--steps", type=int, default=500, help="steps of molecular dynamics (1 fs)")

    fit = commands.add_parser("fit", help="fit a potential to labelled frames")
    fit.add_argument("train", nargs="+", metavar="TRAIN.xyz")
    fit.add_argument("-o", "--output", required=True, metavar="MODEL")
    fit.add_argument("--test", nargs="+", metavar="TEST.xyz", help="report errors on these frames")
    fit.add_argument("--config", metavar="FILE.toml", help="parameters of gapkit.GAP")
    size = fit.add_mutually_exclusive_group()
    size.add_argument("--fast", action="store_true", help="a fit in seconds, less accurate (docs/ACCURACY.md)")
    size.add_argument("--tune", metavar="TIME", help="search over kernel shapes for this long: 90s, 10m, 2h")
    fit.add_argument("--updatable", action="store_true", help="keep what later updates need in the model file")
    fit.add_argument("--quiet", action="store_true", help="no progress bars")

    evaluate = commands.add_parser("evaluate", help="errors and calibration on labelled frames")
    evaluate.add_argument("model", metavar="MODEL")
    evaluate.add_argument("data", nargs="+", metavar="DATA.xyz")
    evaluate.add_argument("--json", metavar="FILE", help="write the numbers there")
    evaluate.add_argument("--plot", metavar="FILE.png", help="parity and reliability")
    evaluate.add_argument("--no-uncertainty", action="store_true", help="errors only, much faster")
    evaluate.add_argument("--quiet", action="store_true", help="no progress bars")

    predict = commands.add_parser("predict", help="write predictions for frames")
    predict.add_argument("model", metavar="MODEL")
    predict.add_argument("data", nargs="+", metavar="DATA.xyz")
    predict.add_argument("-o", "--output", required=True, metavar="OUT.xyz")
    predict.add_argument("--uncertainty", action="store_true", help="standard deviations too")

    info = commands.add_parser("info", help="what a model file holds")
    info.add_argument("model", metavar="MODEL")
    info.add_argument("--card", metavar="FILE", help="write a model card: .md or .html (with pictures)")
    info.add_argument("--data", nargs="+", metavar="DATA.xyz", help="frames not fitted to, for the card's errors")

    md = commands.add_parser("md", help="molecular dynamics")
    md.add_argument("model", metavar="MODEL")
    md.add_argument("structure", metavar="START.xyz")
    md.add_argument("-o", "--output", metavar="TRAJECTORY.xyz")
    md.add_argument("--temperature", type=float, default=300.0, metavar="K")
    md.add_argument("--steps", type=int, default=1000)
    md.add_argument("--timestep", type=float, default=1.0, metavar="FS")
    md.add_argument("--ensemble", choices=("nve", "nvt"), default="nve")
    md.add_argument("--every", type=int, default=10, metavar="STEPS", help="steps between records (default 10)")
    md.add_argument("--seed", type=int, default=0)
    md.add_argument("--no-uncertainty", action="store_true", help="do not watch for environments out of domain")

    active = commands.add_parser("active", help="active learning, from a configuration file")
    active.add_argument("config", metavar="CONFIG.toml")
    active.add_argument("--quiet", action="store_true", help="no progress bars")

    growth = commands.add_parser("growth", help="grow a metal surface with barriers from a model")
    growth.add_argument("--metal", default="Cu", help="one of the bundled barriers' metals (default Cu)")
    growth.add_argument("-o", "--output", default="gapkit-growth", help="folder for pictures and checkpoint")
    growth.add_argument("--size", type=int, default=96, help="columns a side (default 96)")
    growth.add_argument("--temperature", type=float, default=350.0, metavar="K", help="default 350")
    growth.add_argument("--flux", type=float, default=3e4, help="layers per second (default 30,000)")
    growth.add_argument("--layers", type=float, default=0.5, help="layers to deposit (default 0.5)")
    growth.add_argument("--vicinal", type=int, default=0, metavar="STEPS", help="steps of a vicinal surface")
    growth.add_argument("--samples", type=int, default=0, help="draws of the barriers for the error bars")
    growth.add_argument("--seed", type=int, default=0)
    growth.add_argument("--quiet", action="store_true", help="no progress bars")

    domain = commands.add_parser("domain", help="which atoms of some frames a model does not know")
    domain.add_argument("model", metavar="MODEL")
    domain.add_argument("data", nargs="+", metavar="DATA.xyz")
    domain.add_argument("--training", nargs="+", required=True, metavar="TRAIN.xyz", help="what it was fitted to")
    domain.add_argument("--plot", metavar="FILE.png", help="draw distances, deviations and a map")

    fracture = commands.add_parser("fracture", help="crack silicon, learn when bonds break, predict unseen cracks")
    fracture.add_argument("--model", metavar="MODEL", help="a potential of silicon (default: Holland and Marder's)")
    fracture.add_argument("-o", "--output", default="gapkit-fracture.png", metavar="FILE.png", help="picture")
    fracture.add_argument("--modes", type=float, nargs="+", default=[0.0, 11.5, 23.0], metavar="DEGREES")
    fracture.add_argument("--radius", type=float, default=16.0, metavar="A", help="of the moving part (default 16)")
    fracture.add_argument("--factor", type=float, default=1.03, help="from one load to the next (default 1.03)")
    fracture.add_argument("--quiet", action="store_true", help="no progress bars")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 on success, 2 with one line on standard error for an error that the user can mend."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.version:
        from gapkit.fitting.model_file import gapkit_version

        print(f"gapkit {gapkit_version()}")
        return 0
    if options.command is None:
        parser.print_help()
        return 0
    from tqdm import tqdm

    held: list[str] = []

    def show(message: Warning | str, *_: Any) -> None:
        """A warning as one line; in quiet mode at the end, and not at all where an error says what to do first."""
        held.append(f"gapkit: warning: {' '.join(str(message).split())}")
        if not getattr(options, "quiet", False):
            tqdm.write(held.pop(), file=sys.stderr)  # above a progress bar, not into it

    with warnings.catch_warnings():
        warnings.filterwarnings("always", category=GapkitWarning)
        if getattr(options, "quiet", False):
            warnings.filterwarnings("ignore", category=CompilationWarning)
        warnings.showwarning = show  # type: ignore[assignment]
        code = _run(_command(options.command), options)
    if code == 0:
        for line in held:
            print(line, file=sys.stderr)
    return code


def _command(name: str) -> Callable[[argparse.Namespace], None]:
    """The function behind a command; what it needs is imported when it is called for."""
    if name == "active":
        from gapkit.cli.active import active

        return active
    if name in ("growth", "domain", "fracture"):
        from importlib import import_module

        return getattr(import_module(f"gapkit.cli.{name}"), name)
    from gapkit.cli import commands

    return getattr(commands, name)


def _run(command: Callable[[argparse.Namespace], None], options: argparse.Namespace) -> int:
    """Exit code of a command; an error that the user can mend becomes one line."""
    try:
        command(options)
        sys.stdout.flush()
    except GapkitError as error:
        return _fail(str(error))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except MemoryError:
        return _fail("not enough memory; use fewer sparse points, a shorter cutoff, or smaller frames")
    except KeyboardInterrupt:
        _fail("interrupted")
        return 130
    return 0


def _fail(message: str) -> int:
    """One line on standard error, after clearing what progress bars have left there; exit code 2."""
    from tqdm import tqdm

    for bar in list(getattr(tqdm, "_instances", ())):
        bar.leave = False
        bar.close()
    print(f"gapkit: error: {' '.join(message.split())}", file=sys.stderr)
    return 2


def output_path(path: str) -> Path:
    """A path that can be written to, checked before the work that fills it."""
    target = Path(path)
    folder = target.parent
    if not folder.is_dir():
        raise GapkitError(f"{path}: the folder {folder} does not exist; make it first")
    if target.is_dir():
        raise GapkitError(f"{path}: is a folder; give the name of a file")
    if not os.access(folder, os.W_OK):
        raise GapkitError(f"{path}: the folder {folder} cannot be written to; choose another")
    return target
