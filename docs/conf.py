"""Sphinx settings: ``sphinx-build -W --keep-going docs SITE`` (needs ``pip install ".[docs]"``).

The Markdown files of this repository are read in two places, on code hosting and on the site. They link to each other
by relative paths, which this file translates: pages that live elsewhere (README files of ``data/`` and
``benchmarks/``, the changelog, the notebooks) are copied into folders that git ignores, and every link to a file of
the repository is turned into one to its page, or to a copy of the file. A link that leads nowhere is a warning.
"""

from __future__ import annotations

import importlib
import itertools
import json
import os
import pkgutil
import re
import shutil
from importlib import metadata
from pathlib import Path, PurePosixPath

os.environ.setdefault("MPLBACKEND", "agg")

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent

project = "gapkit"
author = "the gapkit developers"
project_copyright = author
try:
    release = metadata.version("gapkit")
except metadata.PackageNotFoundError:
    release = "unknown"
version = release

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "**.ipynb_checkpoints"]
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["wide.css"]
html_title = f"gapkit {release}"
html_show_sourcelink = False

# notebooks are committed executed; continuous integration runs them on its own
nb_execution_mode = "off"
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 4
myst_dmath_double_inline = True
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

napoleon_google_docstring = False
napoleon_use_ivar = False
napoleon_use_rtype = False
napoleon_preprocess_types = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_default_options = {"members": True}
#: several classes have a `std`; a docstring that names it without its class is understood all the same
suppress_warnings = ["ref.python"]

#: pages made from files elsewhere in the repository: file -> page of the site
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "benchmarks/README.md": "project/benchmarks.md",
    "data/README.md": "project/data/index.md",
    "notebooks/README.md": "tutorials/index.md",
}
PAGES |= {f"data/{p.parent.name}/README.md": f"project/data/{p.parent.name}.md" for p in ROOT.glob("data/*/README.md")}
PAGES |= {f"notebooks/{p.name}": f"tutorials/{p.name}" for p in ROOT.glob("notebooks/*.ipynb")}
#: pages of these names are written by hand, not copied
WRITTEN = ("index.md", "tutorials/index.md")
SOURCE = {page: file for file, page in PAGES.items()}

_LINK = re.compile(r"(?<=\]\()(?!https?:|mailto:|#)([^)\s#]+)(#[^)\s]*)?(?=[)\s])")
_FENCE = re.compile(r"^(```+|~~~+).*?^\1[ \t]*$", re.MULTILINE | re.DOTALL)


def page_of(file: str) -> str | None:
    """Page or file of the site (path in ``docs/``) that a file of the repository has become; None for one there is not.

    Files that are not part of the site, such as pictures of the data sets, are copied beside it.
    """
    if (ROOT / file).is_dir() and f"{file}/README.md" in PAGES:
        file = f"{file}/README.md"
    if file in PAGES:
        return PAGES[file]
    if not (ROOT / file).is_file():
        return None
    if file.startswith("docs/"):
        return file.removeprefix("docs/")
    copy = DOCS / "project" / "files" / file
    copy.parent.mkdir(parents=True, exist_ok=True)
    if not copy.exists() or copy.read_bytes() != (ROOT / file).read_bytes():
        shutil.copyfile(ROOT / file, copy)
    return f"project/files/{file}"


def translated(text: str, file: str, page: str) -> str:
    """Markdown of ``file`` (path in the repository), its links as the page ``page`` (path in ``docs/``) needs them."""

    def translate(link: re.Match[str]) -> str:
        target, anchor = link.group(1), link.group(2) or ""
        wanted = os.path.normpath(PurePosixPath(file).parent / target)
        found = page_of(wanted)
        if found is None:
            return link.group(0)  # Sphinx warns of it
        return os.path.relpath(found, PurePosixPath(page).parent) + anchor

    parts, begin = [], 0
    for fence in [*_FENCE.finditer(text), None]:
        end = fence.start() if fence else len(text)
        parts.append(_LINK.sub(translate, text[begin:end]))
        if fence:
            parts.append(fence.group(0))
            begin = fence.end()
    return "".join(parts)


def write(page: str, text: str) -> None:
    """Write a page, unless it is there already as it should be (so that Sphinx need not read it again)."""
    target = DOCS / page
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists() or target.read_text(encoding="utf-8") != text:
        target.write_text(text, encoding="utf-8")


def copy_pages() -> None:
    """Bring the pages that live elsewhere, and remove those whose origin is gone."""
    for file, page in PAGES.items():
        if page in WRITTEN:
            continue
        text = (ROOT / file).read_text(encoding="utf-8")
        if file.endswith(".ipynb"):
            notebook = json.loads(text)
            for cell in notebook["cells"]:
                if cell["cell_type"] == "markdown":
                    cell["source"] = translated("".join(cell["source"]), file, page)
            text = json.dumps(notebook, indent=1)
        else:
            text = translated(text, file, page)
        if page == "project/data/index.md":
            text += "\n```{toctree}\n:hidden:\n:glob:\n\n*\n```\n"
        write(page, text)
    for old in [*DOCS.glob("tutorials/*.ipynb"), *DOCS.glob("project/**/*.md")]:
        if old.relative_to(DOCS).as_posix() not in SOURCE:
            old.unlink()


AUTOMODULE = "```{{eval-rst}}\n.. automodule:: {}\n```\n"


def write_app_reference() -> None:
    """One reference page per package of ``gapkit.apps``, with all of its modules."""
    pages = set()
    for module in pkgutil.iter_modules(importlib.import_module("gapkit.apps").__path__):
        name = f"gapkit.apps.{module.name}"
        page = f"reference/apps/{module.name}.md"
        inner = pkgutil.iter_modules(importlib.import_module(name).__path__)
        sections = "".join(f"\n## {m.name}\n\n{AUTOMODULE.format(f'{name}.{m.name}')}" for m in inner)
        body = f"# {name}\n\n{importlib.import_module(name).__doc__}\n{sections}"
        write(page, body)
        pages.add(page)
    for old in DOCS.glob("reference/apps/*.md"):
        if old.relative_to(DOCS).as_posix() not in pages:
            old.unlink()


def translate_links(app, docname: str, source: list[str]) -> None:
    """Links of pages that are written here, from what is right in the repository to what is right on the site."""
    page = f"{docname}.md"
    if (DOCS / page).is_file() and page not in set(SOURCE) - set(WRITTEN):
        source[0] = translated(source[0], f"docs/{page}", page)


def split_attributes(app, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """``a, b : float`` under "Attributes" as two entries, before napoleon, which splits only parameters."""
    if "Attributes" not in lines:
        return
    begin = lines.index("Attributes") + 2
    section = itertools.takewhile(lambda k: not lines[k].startswith("---"), range(begin, len(lines)))
    end = max(section, default=begin) + 1
    out: list[str] = []
    for k in range(begin, end):
        names, colon, kind = lines[k].partition(" : ")
        if re.fullmatch(r"\w+(, \w+)+", names):
            text = list(itertools.takewhile(lambda line: line.startswith("    "), lines[k + 1 : end]))
            *first, last = names.split(", ")
            for own in first:
                out += [own + colon + kind, *(text or ["    "])]
            out.append(last + colon + kind)
        else:
            out.append(lines[k])
    lines[begin:end] = out


def skip_member(app, what: str, name: str, obj: object, skip: bool, options: object) -> bool | None:
    """Leave out what scikit-learn adds to every estimator for the routing of metadata."""
    routing = name == "get_metadata_routing" or (name.startswith("set_") and name.endswith("_request"))
    return True if routing else None


def setup(app) -> None:
    copy_pages()
    write_app_reference()
    app.connect("source-read", translate_links)
    app.connect("autodoc-skip-member", skip_member)
    app.connect("autodoc-process-docstring", split_attributes, priority=400)
