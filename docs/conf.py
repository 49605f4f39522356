"""How Sphinx makes the site of these pages: `make docs`. Nothing is fetched, neither to build it nor to read it."""

from __future__ import annotations

import inspect
import re
from typing import Any

from pydantic import BaseModel
from sphinx.application import Sphinx

from bench.version import __version__

project = "ard-bench"
copyright = "the authors of ard-bench; MIT licence"
release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["measured"]
myst_heading_anchors = 3
highlight_language = "bash"  # a block without a language holds commands

html_theme = "furo"
html_title = f"ard-bench {__version__}"
html_copy_source = False
html_show_sphinx = False

# Docstrings write code in single backticks, and say of a class's fields what the papers call them.
default_role = "code"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = [("Class attributes", "attributes")]

# Every name of the harness in a signature has to lead somewhere; those of other packages are plain text.
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!bench\.|attacks\.|methods\.).*")]


def _describe_fields(app: Sphinx, what: str, name: str, found: Any, options: Any, lines: list[str]) -> None:
    """Say in a record's class what its fields are: pydantic keeps their descriptions beside them."""
    if not (inspect.isclass(found) and issubclass(found, BaseModel)):
        return
    annotations = inspect.get_annotations(found)
    described = {field: info.description or "" for field, info in found.model_fields.items() if field in annotations}
    if described:
        lines += ["", "Attributes:"]
        lines += [f"    {field} ({annotations[field]}): {text}".rstrip(": ") for field, text in described.items()]


def _without_fields(
    app: Sphinx, what: str, name: str, found: Any, options: Any, signature: str | None, returned: str | None
) -> tuple[str | None, str | None]:
    """Leave a record's fields out of its signature: they are listed below it, and nobody makes one by hand."""
    return ("", None) if inspect.isclass(found) and issubclass(found, BaseModel) else (signature, returned)


def _attach(app: Sphinx, page: str, source: list[str]) -> None:
    """Let the site hold a copy of each Markdown file that a page links to outside this folder; it is no page of it."""
    source[0] = re.sub(r"\]\((?=\.\./[^)\s#]+\.md)", "](path:", source[0])


def setup(app: Sphinx) -> None:
    app.connect("source-read", _attach)
    app.connect("autodoc-process-docstring", _describe_fields, priority=400)  # before napoleon, which reads sections
    app.connect("autodoc-process-signature", _without_fields)
