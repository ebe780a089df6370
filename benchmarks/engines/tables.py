"""The tables that ``benchmarks/peers.py`` prints, from its numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

#: names of gapkit's models in the tables
NAMES = {
    "dense": "gapkit, dense, zeta 4",
    "projected": "gapkit, projected, zeta 4",
    "zeta2": "gapkit, zeta 2",
    "default": "gapkit, default model",
}


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table with aligned columns."""
    cells = [list(head), *[[_text(value) for value in row] for row in rows]]
    width = [max(len(row[k]) for row in cells) for k in range(len(head))]
    lines = ["| " + " | ".join(v.ljust(w) for v, w in zip(row, width, strict=True)) + " |" for row in cells]
    lines.insert(1, "|" + "|".join("-" * (w + 2) for w in width) + "|")
    return "\n".join(lines)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, float):
        return str(value)
    if value == 0 or abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}"


def _look(result: dict[str, Any], *keys: str) -> Any:
    """A number deep in the results, or None where that was not measured or failed."""
    for key in keys:
        if not isinstance(result, dict) or key not in result:
            return None
        result = result[key]
    return result


def _ratio(above: float | None, below: float | None) -> float | None:
    return above / below if above and below else None


def report(result: dict[str, Any]) -> str:
    """All tables of a run."""
    parts = [_head(result)]
    for title, make in (
        ("Energy, forces and virial, one core", _speed),
        ("Descriptor and gradients, periodic crystal, one core", _gradients),
        ("Fit at fixed hyperparameters", _fit),
        ("Uncertainty on top of energy, forces and virial", _variance),
        ("Threads, small cells, start-up, size", _rest),
        ("Ratios", _ratios),
    ):
        text = make(result)
        if text:
            parts.append(f"## {title}\n\n{text}")
    return "\n\n".join(parts)


def _head(result: dict[str, Any]) -> str:
    s, frames = result["settings"], result["frames"]
    lines = [
        f"{result['processor']}; load before {result['load before']}, after {result['load after']}",
        result["versions"],
        f"n_max {s['n_max']}, l_max {s['l_max']}, cutoff {s['r_cut']} A, sigma {s['sigma']} A, {s['n_sparse']} sparse "
        f"points; {frames['frames']} training frames ({frames['atoms']} atoms, {frames['virials']} with virials) from "
        f"{frames['source']}",
    ]
    chosen = _look(result, "fits", "dense", "blas")
    if chosen:
        lines.append(f"linear algebra in gapkit's process: {chosen}")
    rates = {core: answer for core, answer in result["blas"].items() if "gflops" in answer}
    told = ", ".join(f"{core} {answer['gflops']:.0f}" for core, answer in rates.items())
    lines.append(f"GFLOP/s of its matrix products by OPENBLAS_CORETYPE: {told}")
    own, best = rates.get("its choice"), max(rates, key=lambda core: rates[core]["gflops"], default="")
    if own and rates[best]["gflops"] > 1.2 * own["gflops"]:
        lines.append(f"its own choice is slow on this machine: try OPENBLAS_CORETYPE={best}")
    blas = _look(result, "quippy", "blas")
    if blas:
        lines.append(f"in quippy's process (QUIP's own is linked into it): {blas}")
    if _look(result, "quippy", "command"):
        lines.append(f"quippy's model: {result['quippy']['command']}")
    lines.append(_same_work(result))
    return "\n\n".join(lines)


def _same_work(result: dict[str, Any]) -> str:
    """Whether gapkit and quippy do the same work: neighbours, sparse points; features differ by QUIP's constant one."""
    own, quip = _look(result, "speed", "dense"), _look(result, "quippy")
    if not own or not quip or "failed" in quip:
        return "same work as quippy: not measured"
    facts = [(key, own[key], quip[key]) for key in ("neighbours", "n_sparse", "features")]
    same = abs(own["neighbours"] - quip["neighbours"]) < 1e-9 and own["n_sparse"] == quip["n_sparse"]
    told = ", ".join(f"{key} {_text(a)} and {_text(b)}" for key, a, b in facts)
    return f"same work as quippy: {'yes' if same else 'NO'} ({told})"


def _speed(result: dict[str, Any]) -> str:
    rows: list[list[Any]] = []
    base = _look(result, "quippy", "time", "cpu")

    def add(name: str, answer: dict[str, Any] | None, key: str = "time") -> None:
        if answer is None:
            return
        if "failed" in answer:
            rows.append([name, answer["failed"], *[None] * 6])
            return
        t = answer[key]
        numbers = [t["cpu"], t["wall"], _ratio(base, t["cpu"])]
        facts = [answer.get("neighbours"), answer.get("n_sparse"), answer.get("features")]
        rows.append([name, *numbers, *facts, answer.get("peak_mb")])

    add("quippy", result.get("quippy"))
    if _look(result, "quippy", "with_variance"):
        add("quippy, with local variances", result["quippy"], "with_variance")
    for model, answer in (result.get("speed") or {}).items():
        add(NAMES[model], answer)
        if "failed" not in answer:
            add(f"{NAMES[model]}, steps of 0.01 A", answer, "steps")
    for model, fit in result["fits"].items():
        if "failed" in fit:
            add(NAMES[model], fit)
    for style, answer in (result.get("lammps") or {}).items():
        add(f"LAMMPS {style}", answer)
    if not rows:
        return ""
    head = ["what", "CPU us/atom", "wall us/atom", "quippy / this", "neighbours", "sparse", "features", "peak MB"]
    errors = [
        [NAMES[m], fit["force_rmse"], _ratio(fit["force_rmse"], _look(result, "fits", "dense", "force_rmse")),
         fit["energy_rmse_mev"], fit["cpu"]]
        for m, fit in result["fits"].items()
        if "failed" not in fit
    ]  # fmt: skip
    second = table(["model", "force RMSE eV/A", "of dense", "energy RMSE meV/atom", "fit CPU s"], errors)
    note = (
        f"{result['atoms']} atoms; every call of quippy's and gapkit's first rows gets a crystal not seen before, pair "
        "list included; LAMMPS runs dynamics. Peak: above what the process held before the call."
    )
    return f"{table(head, rows)}\n\n{note}\n\nErrors on the held-out frames:\n\n{second}"


def _gradients(result: dict[str, Any]) -> str:
    rows: list[list[Any]] = []
    names = {"gapkit_model": "gapkit, streamed", "dscribe_soap": "dscribe", "featomic_soap": "featomic"}
    for n, answers in (result.get("gradients") or {}).items():
        for engine, answer in answers.items():
            if "failed" in answer:
                rows.append([n, names[engine], answer["failed"], *[None] * 3])
                continue
            rows.append([n, names[engine], *[answer["time"][k] for k in ("cpu", "wall")], answer["peak_mb"]])
            if "whole" in answer:
                whole = answer["whole"]
                rows.append([n, "gapkit, whole frame held", whole["cpu"], whole["wall"], answer["whole_peak_mb"]])
    return table(["atoms", "what", "CPU us/atom", "wall us/atom", "peak MB"], [r[:5] for r in rows]) if rows else ""


def _fit(result: dict[str, Any]) -> str:
    quip, own = result.get("gap_fit"), _look(result, "fits", "dense")
    if not quip or not own:
        return ""
    if "failed" in quip:
        return quip["failed"]
    whole = own["process"]
    rows = [
        ["gap_fit", quip["cpu"], quip["wall"], quip["peak_mb"], sum(quip["labels"].values())],
        ["gapkit, fit", own["cpu"], own["wall"], own["peak_mb"], own["labels"]],
        ["gapkit, whole process (import, fit, test)", whole["cpu"], whole["wall"], whole["peak_mb"], None],
    ]
    shown = f"{quip['command']}\n\nlabels of gap_fit: {quip['labels']}; terms of gapkit: {'; '.join(own['terms'])}"
    return f"{table(['what', 'CPU s', 'wall s', 'peak MB', 'labels'], rows)}\n\n{shown}"


def _variance(result: dict[str, Any]) -> str:
    rows = []
    for model, answer in (result.get("variance") or {}).items():
        if "failed" in answer:
            rows.append([NAMES[model], answer["failed"], None, None, None])
            continue
        none, local, full = (answer[key]["cpu"] for key in ("none", "local", "full"))
        rows.append([NAMES[model], none, local, _ratio(local, none), full])
    head = ["model", "none, CPU us/atom", "local", "local / none", "full (64 atoms)"]
    return table(head, rows) if rows else ""


def _rest(result: dict[str, Any]) -> str:
    rows: list[list[Any]] = []
    for n, answer in (result.get("threads") or {}).items():
        rows.append([f"{n} threads, 1,000 atoms, us/atom", _look(answer, "time", "cpu"), _look(answer, "time", "wall")])
    small = result.get("small") or {}
    for n in ("2", "8", "16"):
        if n in small:
            rows.append([f"cell of {n} atoms, ms per call", small[n]["cpu"], small[n]["wall"]])
    if "cpu" in (result.get("compile") or {}):
        rows.append(["compiling what is not cached on disk yet, and small fits, s", result["compile"]["cpu"], None])
    start = result.get("start-up") or {}
    if "import" in start:
        rows.append(["import gapkit, s", start["import"]["cpu"], start["import"]["wall"]])
        rows.append(["fresh process: load and first call, s", *(start["first_call"][k] for k in ("cpu", "wall"))])
    for n, answers in (result.get("scaling") or {}).items():
        for model, answer in answers.items():
            name = f"{int(n):,} atoms, {NAMES[model]}, us/atom"
            time, peak = _look(answer, "time") or {}, answer.get("peak_mb")
            text = answer.get("failed") or f"{name}, process peak {peak / 1024:.2f} GB"
            rows.append([text, time.get("cpu"), time.get("wall")])
    return table(["what", "CPU", "wall"], rows) if rows else ""


def _ratios(result: dict[str, Any]) -> str:
    def cpu(*keys: str) -> float | None:
        return _look(result, *keys, "cpu")

    quippy = cpu("quippy", "time")
    compressed = {m: t for m in ("projected", "zeta2") if (t := cpu("speed", m, "time"))}
    error = {m: _look(result, "fits", m, "force_rmse") for m in ("dense", *compressed)}
    faithful = [m for m in compressed if error[m] and error["dense"] and error[m] <= 1.01 * error["dense"]]
    best = min(faithful or compressed, key=compressed.__getitem__, default="")
    name, fast = f"E+F+virial, {NAMES.get(best, 'compressed')}", compressed.get(best)
    steps = cpu("speed", best, "steps")
    dscribe, own = ("gradients", "512", "dscribe_soap"), ("gradients", "512", "gapkit_model")
    memory = [_look(result, *engine, "peak_mb") for engine in (dscribe, own)]
    fit_memory = [_look(result, *engine, "peak_mb") for engine in (("gap_fit",), ("fits", "dense"))]
    threads = [_look(result, "threads", n, "time", "wall") for n in ("1", "2")]
    local = [cpu("variance", "dense", level) for level in ("local", "none")]
    rows = [
        ["E+F+virial, dense", "quippy", _ratio(quippy, cpu("speed", "dense", "time")), "60 or more"],
        [name, "quippy", _ratio(quippy, fast), "150 or more"],
        ["force error of that", "dense", _ratio(error.get(best), error["dense"]), "1.01 or less"],
        ["E+F+virial, default model", "quippy", _ratio(quippy, cpu("speed", "default", "time")), "50 or more"],
        ["descriptor and gradients, time", "dscribe", _ratio(cpu(*dscribe, "time"), cpu(*own, "time")), "500 or more"],
        ["descriptor and gradients, memory", "dscribe", _ratio(*memory), "100 or more"],
        ["fit, processor time", "gap_fit", _ratio(cpu("gap_fit"), cpu("fits", "dense")), "30 or more"],
        ["fit, peak memory", "gap_fit", _ratio(*fit_memory), "5 or more"],
        ["two threads, 1,000 atoms, wall", "one", _ratio(*threads), "1.7 or more"],
        ["E+F+virial, with local variances", "without", _ratio(*local), "1.5 or less"],
        [f"{name}, dynamics", "linear SNAP", _ratio(cpu("lammps", "SNAP, linear", "time"), steps), "8 or more"],
        [f"{name}, dynamics", "quadratic SNAP", _ratio(cpu("lammps", "SNAP, quadratic", "time"), steps), "told"],
        [f"{name}, dynamics: slower than", "Tersoff", _ratio(steps, cpu("lammps", "Tersoff", "time")), "10 or less"],
    ]
    rows = [row for row in rows if row[2] is not None]
    return table(["what", "against", "ratio", "promised"], rows) if rows else ""
