"""The docs site: `make docs`. Links that a page has to files beside docs/ lead to their pages here."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

DOCS = Path(__file__).resolve().parent
HOME = DOCS.parent
EXAMPLE = Path(os.environ.get("EXAMPLE") or HOME / "results" / "report" / "demo")

project = "edgeward"
author = "the edgeward authors"
copyright = author
extensions = [
    "myst_parser",
    "autoapi.extension",
    "sphinx.ext.napoleon",
    "sphinxcontrib.mermaid",
]
exclude_patterns = ["schemas", "experiments/*/README.md"]

# Pages as GitHub shows them.
highlight_language = "none"
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4
myst_fence_as_directive = ["mermaid"]
suppress_warnings = [
    "autoapi.python_import_resolution",  # of names defined in chained assignments
    "ref.python",  # an attribute's name that two classes have: napoleon looks for a target in all of them
]

# The API reference is read from the source: neither torch nor edgeward is installed to build the site.
autoapi_dirs = [str(HOME / "src" / "edgeward")]
autoapi_root = "api"
autoapi_add_toctree_entry = False
# Rooms and modules that nobody calls from outside: what a plugin, a study or a notebook imports is kept.
INSIDE = (
    "pipeline", "tracking", "reporting", "training", "scaling", "profiling/agent", "compression/constraint", "models/zoo",
    "data/sources", "data/volumes", "runtimes/onnxruntime", "runtimes/openvino", "tasks/multiclass", "tasks/multilabel",
    "tasks/segmentation",
)  # fmt: skip
autoapi_ignore = [f"*/edgeward/{room}/*" for room in INSIDE]
autoapi_options = ["members", "show-inheritance"]
autoapi_member_order = "bysource"
autoapi_keep_files = False
autodoc_typehints = "signature"
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
napoleon_custom_sections = [
    "Returns",
    "Yields",
]  # what stands there is text, and no type before a colon
default_role = "code"

html_theme = "pydata_sphinx_theme"
html_title = "edgeward"
templates_path = ["_templates"]
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_sidebars = {
    "**": ["pages.html"]
}  # all pages everywhere: the theme's own list holds those of a section only
html_theme_options = {
    "navbar_center": [],
    "show_prev_next": False,
    "navbar_end": ["theme-switcher"],
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_show_sourcelink = False
html_copy_source = False

ELSEWHERE = {"config/README.md": "configuration.md", "README.md": "index.md"}
ENTRY = re.compile(r"^( *)([\w*, ]+) : (.*)$")
MARKUP = re.compile(r"(`+[^`]+`+)|([*|]|_\b)")


def lead_here(_: Sphinx, name: str, content: list[str]) -> None:
    """Let links to files beside docs/ lead to the pages made of them."""
    below = "../" * name.count("/")
    for file, page in ELSEWHERE.items():
        content[0] = content[0].replace(f"]({below}../{file}", f"]({below}{page}")


def as_numpydoc(_: Sphinx, *where: object) -> None:
    """Put what stands behind the colon of a parameter, or of a part of what is returned, below it: there it is its meaning, types
    stand in the signature. Stars and bars are no markup outside of backticks."""
    lines: list[str] = where[-1]  # type: ignore[assignment]
    found: list[str] = []
    inside = False
    for i, line in enumerate(lines):
        if i and re.fullmatch(r" *-{3,}", line):
            inside = lines[i - 1].strip() in ("Parameters", "Attributes", "Returns", "Yields")
        elif not line.strip():
            inside = False
        entry = ENTRY.match(line) if inside else None
        found += [f"{entry[1]}{entry[2]}", f"{entry[1]}    {entry[3]}"] if entry else [line]
    lines[:] = [MARKUP.sub(lambda m: m[1] or f"\\{m[2]}", line) for line in found]


def with_packages(_: Sphinx, what: str, *_rest: object) -> bool | None:
    """Show rooms although their ``__init__.py`` says nothing."""
    return False if what == "package" else None


def with_example(app: Sphinx, error: Exception | None) -> None:
    """Copy a finished report beside the pages."""
    if error is None and app.tags.has("example"):
        shutil.copytree(EXAMPLE, Path(app.outdir) / "example", dirs_exist_ok=True)


def setup(app: Sphinx) -> None:
    if (EXAMPLE / "index.html").is_file():
        app.tags.add("example")
    elif os.environ.get("EXAMPLE"):
        sys.exit(
            f"EXAMPLE={EXAMPLE}: there is no index.html of a report in it. Run a sweep, or leave EXAMPLE out."
        )
    app.connect("source-read", lead_here)
    app.connect("autodoc-process-docstring", as_numpydoc, priority=400)  # before napoleon
    app.connect("autoapi-skip-member", with_packages)
    app.connect("build-finished", with_example)
