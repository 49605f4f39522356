"""Renders, from the committed records, what results/ holds beside them and what the pages show of it: `make measured`.

TABLES are rendered into the campaigns in results/, the output of PRINTED is kept in files. Pages show both: between
`<!-- from: FILE -->` and `<!-- end -->` stands the text of that file, its headings one level down; after
`<!-- from: FILE rows: TEXT -->` stand the rows of the file's first table whose first cell is TEXT. FILE is a path,
relative to this folder.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent / "results"
_CHECK = ("--student", "resnet20", "--datasets", "parquet:cifar10-jpeg")
_BRIEF = ("--student", "resnet20", "--datasets", "parquet:cifar10")
_PAPER = tuple(part for number in (0, 2, 3, 5, 7) for part in ("--table", str(number)))
_RANKED = ("--table", "3", "--table", "5")
_RUN = "cpu-check/records/parquet-cifar10-jpeg_resnet20_"
_WHY = _RUN.replace("cpu-check", "cpu-check-why")
_PGD = ("--attack", "clean", "--attack", "pgd-sat")

TABLES: dict[str, tuple[str, ...]] = {
    "demo": ("tables", "--quiet", "--datasets", "digits"),
    "cpu-check": ("tables", "--quiet", *_CHECK, "--table", "overview", *_PAPER),
    "cpu-seeds": ("tables", "--quiet", *_CHECK, "--table", "overview"),
    "cpu-seed-2": ("tables", "--quiet", *_CHECK, "--table", "overview"),
    "brief-cifar10": ("tables", "--quiet", "--datasets", "parquet:cifar10", "--table", "overview", "--table", "3"),
    "digits-study": ("tables", "--quiet", "--datasets", "digits", "--table", "overview", "--table", "unseen"),
    "digits-vit": ("tables", "--quiet", "--datasets", "digits", "--table", "overview"),
}
"""By campaign: the command that renders its tables."""

_TRADEOFF = ("figures", "--figure", "tradeoff", "--attack", "pgd-sat")
FIGURES = {
    "digits-study": (*_TRADEOFF, "--datasets", "digits"),
    "brief-cifar10": (*_TRADEOFF, "--datasets", "parquet:cifar10"),
}
"""Likewise its figures."""

ARCHIVED = ("digits-study",)
"""Campaigns whose records are so many that git has them in one file, records.tar.gz."""

PRINTED: dict[str, tuple[str, ...]] = {
    "cpu-check/order.md": ("--home", "cpu-check", "tables", *_CHECK, *_RANKED, "--order", "cifar10"),
    "cpu-check/audit.txt": ("--home", "cpu-check", "tables", *_CHECK, *_PAPER, "--audit"),
    "cpu-check/pairs.txt": ("compare", f"{_RUN}*__whitebox-official-n1000.json", "--attack", "pgd-sat"),
    "cpu-check/seeds.md": (
        "compare",
        *(f"{_RUN}{name}*whitebox*" for name in ("ciard_*_s0_099", "ciard_*_s1", "rslad", "sat")),
        *_PGD,
    ),
    "cpu-check/over-seeds.md": ("compare", "cpu-seeds/records/*__whitebox-official-n1000.json", *_PGD),
    "cpu-check/seed-2.md": ("compare", "cpu-seed-2/records/*__whitebox-official-n1000.json", *_PGD),
    "cpu-check/ablation.md": ("compare", f"{_RUN}ciard_*whitebox*", "--attack", "clean", "--attack", "pgd-trades"),
    "cpu-check/teacher.md": ("compare", f"{_RUN}b-mtard_*whitebox*", f"{_WHY}b-mtard_*whitebox*", *_PGD),
    "cpu-check/score.md": (
        "compare",
        f"{_RUN}score_*whitebox*",
        f"{_WHY}score_*whitebox*",
        f"{_RUN}sat_*_s0_*whitebox*",
        *_PGD,
    ),
    "brief-cifar10/order.md": ("--home", "brief-cifar10", "tables", *_BRIEF, "--table", "3", "--order", "cifar10"),
}
"""By file in results: the command that prints it, run in results; names of files may have wildcards."""

_EMBEDDED = re.compile(
    r"(?P<start><!-- from: (?P<file>\S+)(?: rows: (?P<rows>[^\n]+))? -->\n).*?(?P<end>^<!-- end -->$)",
    re.DOTALL | re.MULTILINE,
)


def found(arguments: tuple[str, ...], home: Path) -> list[str]:
    """A command's arguments with the files that its wildcards stand for, in order.

    Raises:
        FileNotFoundError: no file has such a name.
    """
    words: list[str] = []
    for word in arguments:
        if "*" not in word:
            words.append(word)
            continue
        paths = sorted(home.glob(word))
        if not paths:
            raise FileNotFoundError(f"{home} has no {word}")
        words += [str(path.relative_to(home)) for path in paths]
    return words


def embedded(page: str, folder: Path = HERE) -> str:
    """A page's text with what it embeds as the files have it now.

    Raises:
        FileNotFoundError: a file that is named is not there.
        ValueError: a start or an end without the other; no row that begins so.
    """

    def text(match: re.Match[str]) -> str:
        content = (folder / match["file"]).read_text(encoding="utf-8").strip()
        content = re.sub(r"^## ", "### ", content, flags=re.MULTILINE)  # it stands below a heading of the page
        content = content.replace("](provenance.md)", f"]({Path(match['file']).with_name('provenance.md').as_posix()})")
        if match["rows"] is not None:
            content = _rows(content, match["rows"])
        return f"{match['start']}\n{content}\n\n{match['end']}"

    marks = page.count("<!-- from: "), page.count("<!-- end -->")
    if not marks[0] == marks[1] == len(_EMBEDDED.findall(page)):
        raise ValueError(f"{marks[0]} starts and {marks[1]} ends of embedded files")
    return _EMBEDDED.sub(text, page)


def _rows(content: str, first: str) -> str:
    """The head of a file's first table, and its rows whose first cell is `first`."""
    head, rule, *rows = (line for line in content.splitlines() if line.startswith("|"))
    chosen = [row for row in rows if row.startswith(f"| {first} |")]
    if not chosen:
        raise ValueError(f"no row begins with {first!r}")
    return "\n".join([head, rule, *chosen])


def _bench(*arguments: str) -> str:
    command = [sys.executable, "-m", "bench", *found(arguments, RESULTS)]
    return subprocess.run(command, cwd=RESULTS, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    from digits_study import Campaign, findings  # beside this file

    for campaign in ARCHIVED:
        _bench("--home", campaign, "results", "merge", f"{campaign}/records.tar.gz")
    for campaign, arguments in (*TABLES.items(), *FIGURES.items()):
        _bench("--home", campaign, *arguments)
    study, one_teacher = (Campaign(RESULTS / name) for name in ("digits-study", "digits-one-teacher"))
    for name, text in findings(study, one_teacher).items():
        (study.home / name).write_text(text, encoding="utf-8")
    for name, arguments in PRINTED.items():
        (RESULTS / name).write_text(_bench(*arguments), encoding="utf-8")
    for page in sorted(HERE.glob("*.md")):
        page.write_text(embedded(page.read_text(encoding="utf-8")), encoding="utf-8")
