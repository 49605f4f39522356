"""Makes any text harmless in Markdown, LaTeX and CSV: names come from users, plug-ins and files."""

from __future__ import annotations

import unicodedata

from bench.system.text import one_line

_MARKDOWN = {
    **{mark: "\\" + mark for mark in "\\`*_[]~$#"},
    # As entities: a backslash does not help against HTML, nor everywhere against a table's own bar.
    **{mark: f"&#{ord(mark)};" for mark in "<>&|"},
}

_LATEX = {
    **{mark: "\\" + mark for mark in "&%$#_{}"},
    # In braces: `\\` would take a bracket or an asterisk at the start of a row for its own.
    **{mark: f"{{{mark}}}" for mark in "[]*`"},
    **{mark: f"${mark}$" for mark in "<>|"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    '"': "{''}",
    "–": r"\textendash{}",
    "—": r"\textemdash{}",
    "−": "$-$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "†": r"$^\dagger$",
    "‡": r"$^\ddagger$",
    "≈": r"$\approx$",
    "∞": r"$_\infty$",
    "²": "$^2$",
    "α": r"$\alpha$",
    "β": r"$\beta$",
    "ε": r"$\epsilon$",
    "λ": r"$\lambda$",
    "τ": r"$\tau$",
    "ß": r"{\ss}",
    "æ": r"{\ae}",
    "Æ": r"{\AE}",
    "ø": r"{\o}",
    "Ø": r"{\O}",
    "ł": r"{\l}",
    "Ł": r"{\L}",
}
_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")
_ACCENTS = {
    "\u0300": "`",
    "\u0301": "'",
    "\u0302": "^",
    "\u0303": "~",
    "\u0304": "=",
    "\u0306": "u",
    "\u0308": '"',
    "\u030a": "r",
    "\u030b": "H",
    "\u030c": "v",
    "\u0327": "c",
}


def markdown(text: str) -> str:
    """Text that GitHub's Markdown shows as it is, also inside a table."""
    return "".join(_MARKDOWN.get(mark, mark) for mark in one_line(text))


def latex(text: str) -> str:
    """Text as plain ASCII that any LaTeX engine and font encoding shows as it is.

    A character that LaTeX's standard fonts lack appears as its code: [U+4E2D].
    """
    # Two hyphens would become a dash.
    return "".join(_latex_mark(mark) for mark in one_line(text)).replace("--", "-{}-")


def csv(text: str) -> str:
    """Text that a spreadsheet shows as it is: what it would take for a formula begins with an apostrophe."""
    line = one_line(text)
    try:
        float(line)
    except ValueError:
        return f"'{line}" if line.startswith(_FORMULA) else line
    return line


def _latex_mark(mark: str) -> str:
    if mark in _LATEX:
        return _LATEX[mark]
    if mark.isascii():
        return mark
    parts = unicodedata.normalize("NFD", mark)
    if len(parts) == 2 and parts[0].isascii() and parts[1] in _ACCENTS:
        return f"\\{_ACCENTS[parts[1]]}{{{parts[0]}}}"
    return f"{{[}}U+{ord(mark):04X}{{]}}"
