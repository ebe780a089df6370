"""Entry point of the command line: it parses arguments, runs one command, and turns errors into one line."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, NoReturn

from gapkit.exceptions import CompilationWarning, GapkitError, GapkitWarning
from gapkit.version import __version__


class _Parser(argparse.ArgumentParser):
    """Errors on one line, exit code 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"gapkit: error: {message} (see {self.prog} --help)\n")


#: commands and their help; each is a module of this package with ``add_arguments(parser)`` and ``run(options)``
COMMANDS = {
    "quickstart": "fit, test and run the bundled silicon example",
    "check": "what the labels of frames say of each other; whether a model file is sound",
    "fit": "fit a potential to labelled frames",
    "evaluate": "errors and calibration on labelled frames",
    "predict": "write predictions for frames",
    "info": "what a model file holds",
    "md": "molecular dynamics",
    "active": "active learning, from a configuration file",
    "domain": "which atoms of some frames a model does not know",
    "barrier": "barrier and rates between two minima, with error bars",
    "saddle": "barrier between two minima by a reference method, with few calls of it",
    "rates": "turnover frequency of a mechanism, its error bar, and the number to compute next",
    "vibrations": "frequencies of a relaxed structure, with error bars",
    "growth": "grow a metal surface with barriers from a model",
    "transport": "diffusion and conductivity of ions, by dynamics or from trajectories",
    "fracture": "crack silicon, learn when bonds break, predict unseen cracks",
}


def parser_for(chosen: str | None = None) -> argparse.ArgumentParser:
    """The parser of the command line. Only the ``chosen`` command's module is imported, and only it has its options."""
    parser = _Parser(prog="gapkit", description="Kernel-based interatomic potentials with error bars.")
    parser.add_argument("--version", action="store_true", help="print the version and stop")
    commands = parser.add_subparsers(dest="command", parser_class=_Parser)
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text)
        if name == chosen:
            module = import_module(f"gapkit.cli.{name}")
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 on success, 1 where ``check`` finds something suspicious.

    2 with one line on standard error for an error that the user can mend; 130 after Ctrl-C, also while modules are
    loaded.
    """
    try:
        return _main(arguments)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)


def _main(arguments: Sequence[str] | None) -> int:
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    parser = parser_for(next((word for word in arguments if not word.startswith("-")), None))
    options = parser.parse_args(arguments)
    if options.version:
        print(f"gapkit {__version__}")
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
        code = _run(options.run, options)
    if code == 0:
        for line in held:
            print(line, file=sys.stderr)
    return code


def _run(command: Callable[[argparse.Namespace], int | None], options: argparse.Namespace) -> int:
    """Exit code of a command, 0 where it gives none; an error that the user can mend becomes one line."""
    try:
        code = command(options)
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
        return _fail("interrupted", 130)
    return code or 0


def _fail(message: str, code: int = 2) -> int:
    """One line on standard error, after clearing what progress bars have left there; the exit code."""
    bars = getattr(sys.modules.get("tqdm"), "tqdm", None)  # not loaded for this: Ctrl-C may have ended just that
    for bar in list(getattr(bars, "_instances", ())):
        bar.leave = False
        bar.close()
    print(f"gapkit: error: {' '.join(message.split())}", file=sys.stderr)
    return code
