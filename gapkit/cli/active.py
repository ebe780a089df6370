"""The command ``gapkit active``: an active-learning run from a configuration file."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import ase

from gapkit import generation
from gapkit.active import (
    ActiveLearning,
    AtomThreshold,
    DOptimal,
    DynamicsExplorer,
    GeneratorExplorer,
    MaximumVariance,
    PoolExplorer,
    RandomChoice,
    Stop,
    VarianceReduction,
)
from gapkit.active.explorers import Explorer
from gapkit.active.loop import log_table
from gapkit.cli.configuration import read_toml
from gapkit.estimators.gap import GAP
from gapkit.exceptions import SettingsError
from gapkit.fitting.settings import FitSettings
from gapkit.oracles import ORACLES, oracle
from gapkit.plotting import learning_figure
from gapkit.structures.files import read_frames

#: keys of the file beside the tables
TOP = ("folder", "initial", "test", "random_state", "batch", "workers", "retries", "refit_growth")
TABLES = ("model", "oracle", "explorer", "acquisition", "stop")
ACQUISITIONS: dict[str, Any] = {
    "d-optimal": DOptimal,
    "variance-reduction": VarianceReduction,
    "variance": MaximumVariance,
    "threshold": AtomThreshold,
    "random": RandomChoice,
}
#: generators that an explorer can name; those that need a calculator are given the current model's
GENERATORS = ("random_displacements", "cell_strains", "vacancies", "interstitials", "neighbour_scan")
DYNAMIC = ("normal_mode_displacements", "thermal_snapshots", "constrained_distances")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``gapkit active``."""
    parser.add_argument("config", metavar="CONFIG.toml")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def read_active_config(path: str) -> dict[str, Any]:
    """Tables of a configuration file of active learning, with unknown keys refused.

    Raises
    ------
    SettingsError
        Naming the file, the table and the key.
    """
    table = read_toml(path, (*TOP, *TABLES), {"seed": "random_state"})
    for name in TABLES:
        if not isinstance(table.setdefault(name, {}), Mapping):
            raise SettingsError(f"{path}: {name} must be a table: write [{name}]")
    missing = [k for k in ("folder", "initial") if k not in table]
    missing += [f"[{t}] {k}" for t, k in (("oracle", "name"), ("explorer", "kind")) if k not in table[t]]
    if missing:
        raise SettingsError(f"{path}: missing {', '.join(missing)}")
    for key in ("folder", "initial", "test"):
        names = table.get(key, "")
        listed = isinstance(names, list) and key != "folder" and all(isinstance(n, str) for n in names)
        if not (isinstance(names, str) or listed):
            raise SettingsError(f"{path}: {key} must be the name of a file or folder, not {names!r}")
    for key in ("random_state", "batch", "workers", "retries", "refit_growth"):
        value = table.get(key, 0)
        whole = isinstance(value, int) or (key == "refit_growth" and isinstance(value, float))
        if not whole or isinstance(value, bool) or value < 0:
            raise SettingsError(f"{path}: {key} must be a number of at least 0, not {value!r}")
    return table


def build(path: str, progress: bool = True) -> ActiveLearning:
    """The run that a configuration file describes; paths in it are relative to the file.

    Raises
    ------
    SettingsError, DataError
        Naming what cannot work.
    """
    table = read_active_config(path)
    here = Path(path).resolve().parent
    initial = _frames(here, table["initial"])
    name = table["oracle"]["name"]
    if name not in ORACLES:
        raise SettingsError(f"{path}: no oracle is called {name!r}: choose one of {', '.join(ORACLES)}")
    settings = {k: v for k, v in table["oracle"].items() if k != "name"}
    oracle(name, **settings)  # a missing code is an error now, not in a worker
    try:
        FitSettings.of(GAP(**table["model"]).get_params(deep=False))
        acquisition = dict(table["acquisition"])
        strategy = ACQUISITIONS[acquisition.pop("kind", "d-optimal")](**acquisition)
        return ActiveLearning(
            folder=here / table["folder"],
            gap=GAP(**table["model"]),
            initial=initial,
            explorer=_explorer(table["explorer"], initial, here),
            make_oracle=partial(oracle, name, **settings),
            acquisition=strategy,
            stop=Stop(**table["stop"]),
            test=_frames(here, table["test"]) if "test" in table else None,
            settings={k: table[k] for k in ("model", "oracle", "explorer", "acquisition")},
            progress=progress,
            **{k: table[k] for k in ("batch", "workers", "retries", "refit_growth", "random_state") if k in table},
        )
    except KeyError as error:
        raise SettingsError(
            f"{path}: no acquisition is called {error}: choose one of {', '.join(ACQUISITIONS)}"
        ) from None
    except TypeError as error:
        raise SettingsError(f"{path}: {error}") from None
    except SettingsError as error:
        raise SettingsError(f"{path}: {error}") from None


def _frames(here: Path, names: str | list[str]) -> list[ase.Atoms]:
    return read_frames(*(here / n for n in ([names] if isinstance(names, str) else names)))


def _explorer(table: Mapping[str, Any], initial: list[ase.Atoms], here: Path) -> Explorer:
    """``dynamics``, ``pool`` (with ``frames``), or the name of a generator with its keywords and ``frames_per_run``."""
    keywords = dict(table)
    kind = keywords.pop("kind")
    starts = _frames(here, keywords.pop("start")) if "start" in keywords else initial
    if kind == "dynamics":
        return DynamicsExplorer(starts, **keywords)
    if kind == "pool":
        if set(keywords) != {"frames"}:
            raise SettingsError("[explorer] kind 'pool' has the key frames: the file of the pool")
        return PoolExplorer(_frames(here, keywords["frames"]))
    if kind not in (*GENERATORS, *DYNAMIC):
        known = ", ".join(("dynamics", "pool", *GENERATORS, *DYNAMIC))
        raise SettingsError(f"[explorer] no kind is called {kind!r}: choose one of {known}")
    make = getattr(generation, kind)

    def frames(gap, rng):
        for start in starts:
            if kind in DYNAMIC:
                yield from make(start, gap.calculator(), random_state=rng, **keywords)
            else:
                yield from make(start, random_state=rng, **keywords)

    return GeneratorExplorer(frames, keywords.get("n", 1) * len(starts))


def run(options: argparse.Namespace) -> None:
    """Start or continue the active-learning run of a configuration file."""
    learning = build(options.config, progress=not options.quiet)
    log = learning.run()
    print(log_table(log))
    picture = learning.root / "learning.png"
    learning_figure(log, picture)
    state = sorted(learning.root.glob("model-*.gapkit"))[-1]
    print(f"model: {state}   log: {learning.root / 'log.txt'}   picture: {picture}")
