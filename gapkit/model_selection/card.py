"""The model card: training data, settings, errors and domain of a potential."""

from __future__ import annotations

import base64
import html
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ase.data
import numpy as np

from gapkit.estimators.gap import GAP, screened_lines, shape_lines
from gapkit.estimators.report import Report
from gapkit.exceptions import SettingsError
from gapkit.model_selection.last_digits import Movement
from gapkit.models.levels import kind_of
from gapkit.plotting import card_figures
from gapkit.potential.domain import ENERGY_MARGIN
from gapkit.safe_write import replacing
from gapkit.version import __version__

_NOISE_HEADER = ("labels", "level of the fit", "relative error", "held-out RMSE", "noise of error bars", "unit")
UNITS = {"energy": "eV/sqrt(atoms)", "forces": "eV/A", "virial": "eV/sqrt(atoms)"}


@dataclass(frozen=True)
class Section:
    """A heading, lines of text, and a table whose first row is its header."""

    heading: str
    lines: tuple[str, ...] = ()
    table: tuple[tuple[str, ...], ...] = ()


def sections(gap: GAP, report: Report | None = None) -> list[Section]:
    """Contents of the card; ``report`` of frames that were not fitted to adds their errors."""
    m = gap.potential_.metadata
    made = [
        Section("Training data", _data_lines(m), (("config_type", "frames"), *_rows(m["config_types"]))),
        Section("Terms", _baseline_lines(gap), (("term", "settings", "signal (eV)", "relative error"), *_terms(gap))),
        Section(
            "Noise levels",
            _objective_lines(m),
            (_NOISE_HEADER, *_noise(gap)),
        ),
        Section("Domain of validity", _domain_lines(gap)),
    ]
    curve = m.get("levels", {}).get("sparse_curve")
    if curve:
        rows = tuple((str(n), _number(1e3 * e if e else None), _number(f)) for n, e, f in curve)
        lines = ("Held-out root-mean-square errors of the models with fewer sparse points, at the levels of the fit.",)
        made.append(
            Section("Sparse points", lines, (("sparse points", "energy (meV/sqrt(atoms))", "force (eV/A)"), *rows))
        )
    if report is not None:
        made.append(Section("Errors on frames that were not fitted to", (), _report_rows(report)))
    return made


def _rows(table: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple((str(k), str(v)) for k, v in table.items())


def _number(value: float | None) -> str:
    return "-" if value is None or not np.isfinite(value) else f"{value:.4g}"


def _data_lines(m: dict[str, Any]) -> tuple[str, ...]:
    lines = [
        f"{m['n_frames']} frames, {m['n_atoms']} atoms, {m['n_labels']} labels; species {', '.join(m['species'])}",
        f"SHA-256 {m['training_hash']}",
    ]
    theory = m.get("domain", {}).get("level_of_theory")
    lines.append(f"level of theory: {'; '.join(theory) if theory else 'not given'}")
    return (*lines, *screened_lines(m))


def _baseline_lines(gap: GAP) -> tuple[str, ...]:
    p = gap.potential_
    e0 = ", ".join(f"{ase.data.chemical_symbols[z]} {v:.6f} eV" for z, v in sorted(p.reference.values.items()))
    lines = [
        f"reference energies: {e0}",
        f"baseline: {type(p.baseline).__name__ if p.baseline is not None else 'none'}",
    ]
    dropped = p.metadata.get("levels", {}).get("dropped_terms")
    if dropped:
        lines.append(f"dropped, because their signal vanished: {', '.join(dropped)}")
    return tuple(lines)


def _terms(gap: GAP) -> tuple[tuple[str, ...], ...]:
    p = gap.potential_
    errors = p.metadata.get("levels", {}).get("signal_errors", {})
    rows = []
    for k, (term, signal) in enumerate(zip(p.terms, p.posterior.signal, strict=True)):
        settings = {a: b for a, b in term.settings().items() if a not in ("name", "signal") and b is not None}
        text = ", ".join(f"{a} {b}" for a, b in settings.items())
        rows.append((term.settings()["name"], text, f"{signal:.3g}", _number(errors.get(str(k)))))
    return tuple(rows)


def _objective_lines(m: dict[str, Any]) -> tuple[str, ...]:
    search_summary = m.get("levels", {})
    lines = []
    if search_summary:
        lines.append(f"chosen by {search_summary['objective'].replace('_', ' ')}; relative errors from its curvature")
        if search_summary.get("log_evidence_per_label") is not None:
            lines.append(f"log evidence per label at these levels: {search_summary['log_evidence_per_label']:.4f}")
        lines += shape_lines(search_summary.get("shapes") or [])
    moved = m.get("last_digits")
    lines.append(str(Movement(**moved)) if moved else "how far last digits move predictions was not measured")
    return tuple(lines)


def _noise(gap: GAP) -> tuple[tuple[str, ...], ...]:
    m, groups = gap.potential_.metadata, gap.potential_.calibration.groups
    errors = m.get("levels", {}).get("noise_errors", {})
    return tuple(
        (g, _number(level), _number(errors.get(g)), _number(groups[g].held_out_rmse), _number(groups[g].noise),
         UNITS.get(kind_of(g), "eV"))
        for g, level in sorted(m["noise"].items())
        if g in groups
    )  # fmt: skip


def _domain_lines(gap: GAP) -> tuple[str, ...]:
    p = gap.potential_
    lines = [f"species: {', '.join(p.metadata['species'])}; cutoff {p.r_cut} A"]
    domain = p.metadata.get("domain", {})
    if domain.get("nearest_neighbour"):
        low, high = domain["nearest_neighbour"]
        lines.append(f"distance to the nearest neighbour in training frames: {low:.3f} to {high:.3f} A")
    if domain.get("density"):
        low, high = domain["density"]
        lines.append(f"density of periodic training frames: {low:.5f} to {high:.5f} atoms/A^3")
    limit = p.domain_limit(noise=False)
    lines.append(f"an environment counts as out of domain above {limit:.4g} eV standard deviation of its local energy")
    if p.domain.energy_variance is not None:
        lines.append(
            f"and a frame where the standard deviation of its energy is {ENERGY_MARGIN:g} times the largest in "
            "held-out frames"
        )
    return tuple(lines)


def _report_rows(report: Report) -> tuple[tuple[str, ...], ...]:
    keys = ("energy_rmse_mev_per_atom", "energy_mae_mev_per_atom", "force_rmse_ev_per_ang", "force_mae_ev_per_ang",
            "virial_rmse_mev_per_atom", "energy_z_std", "force_z_std")  # fmt: skip
    header = ("config_type", "frames", "E RMSE (meV/atom)", "E MAE (meV/atom)", "F RMSE (eV/A)", "F MAE (eV/A)",
              "V RMSE (meV/atom)", "E z", "F z")  # fmt: skip
    tables = {**report.config_types, "all": report.summary}
    return (header, *((name, str(s["n_frames"]), *(_number(s[k]) for k in keys)) for name, s in tables.items()))


def model_card(gap: GAP, report: Report | None = None, form: str = "markdown") -> str:
    """Text of the model card, in Markdown or HTML.

    Parameters
    ----------
    gap
        A fitted or loaded model.
    report
        ``gap.evaluate`` of frames that were not fitted to: adds errors, and in HTML parity and reliability plots.
    form
        ``"markdown"`` or ``"html"`` (one file, pictures inside).
    """
    if form not in ("markdown", "html"):
        raise SettingsError(f"a model card is 'markdown' or 'html', not {form!r}")
    title = f"gapkit potential for {', '.join(gap.potential_.metadata['species'])}"
    contents = sections(gap, report)
    made_with = f"card made with gapkit {__version__}"
    if form == "markdown":
        return _markdown(title, contents, made_with)
    pictures = card_figures(gap.potential_.metadata.get("levels", {}).get("sparse_curve"), report)
    return _html(title, contents, pictures, made_with)


def _markdown(title: str, contents: Sequence[Section], footer: str) -> str:
    out = [f"# {title}", ""]
    for section in contents:
        out += [f"## {section.heading}", ""]
        out += [f"- {line}" for line in section.lines] + ([""] if section.lines else [])
        if len(section.table) > 1:
            out.append("| " + " | ".join(section.table[0]) + " |")
            out.append("|" + " --- |" * len(section.table[0]))
            out += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in section.table[1:]]
            out.append("")
    return "\n".join([*out, footer, ""])


_STYLE = (
    "body{font:15px/1.5 sans-serif;max-width:62em;margin:2em auto;padding:0 1em;color:#222}"
    "table{border-collapse:collapse;margin:.6em 0}td,th{border:1px solid #ccc;padding:.2em .6em;text-align:left}"
    "th{background:#f2f2f2}img{max-width:100%}"
)


def _html(title: str, contents: Sequence[Section], pictures: Sequence[tuple[str, bytes]], footer: str) -> str:
    e = html.escape
    out = [
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{e(title)}</title>',
        f"<style>{_STYLE}</style></head><body><h1>{e(title)}</h1>",
    ]
    for section in contents:
        out.append(f"<h2>{e(section.heading)}</h2>")
        out += [f"<p>{e(line)}</p>" for line in section.lines]
        if len(section.table) > 1:
            rows = ["<tr>" + "".join(f"<th>{e(c)}</th>" for c in section.table[0]) + "</tr>"]
            rows += ["<tr>" + "".join(f"<td>{e(c)}</td>" for c in row) + "</tr>" for row in section.table[1:]]
            out.append(f"<table>{''.join(rows)}</table>")
    for name, png in pictures:
        out.append(f'<h2>{e(name)}</h2><img alt="{e(name)}" src="data:image/png;base64,')
        out[-1] += base64.b64encode(png).decode("ascii") + '">'
    return "\n".join([*out, f"<p>{e(footer)}</p></body></html>", ""])


def write_card(gap: GAP, path: str | os.PathLike, report: Report | None = None) -> None:
    """Write the card; the ending says the form: ``.md`` or ``.html``."""
    ending = os.path.splitext(path)[1].lower()
    if ending not in (".md", ".html", ".htm"):
        raise SettingsError(f"{path}: a model card ends in .md or .html")
    text = model_card(gap, report, "markdown" if ending == ".md" else "html")
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
