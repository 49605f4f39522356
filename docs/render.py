"""Renders anew, from the committed records, what the pages show as measured: `make measured`.

TABLES are rendered into the homes in this folder, the output of PRINTED is kept in files; both go into the pages: what
stands there between `<!-- from: FILE -->` and `<!-- end -->` is the text of that file, its headings one level down;
FILE is a path relative to this folder.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
_CHECK = ("--student", "resnet20", "--datasets", "parquet:cifar10-jpeg")
_SHOWN = tuple(part for number in (0, 2, 3, 5, 7) for part in ("--table", str(number)))
_RANKED = ("--table", "3", "--table", "5")
_RUN = "results/records/parquet-cifar10-jpeg_resnet20_"
_PGD = ("--attack", "clean", "--attack", "pgd-sat")

TABLES: dict[str, tuple[str, ...]] = {
    "demo": ("tables", "--datasets", "digits"),
    "cpu-check": ("tables", *_CHECK, *_SHOWN),
}
"""By home: the command that renders its tables."""

PRINTED: dict[str, tuple[str, ...]] = {
    "order.md": ("tables", *_CHECK, *_RANKED, "--order", "cifar10"),
    "audit.txt": ("tables", *_CHECK, *_SHOWN, "--audit"),
    "pairs.txt": ("compare", f"{_RUN}*__whitebox-official-n1000.json", "--attack", "pgd-sat"),
    "seeds.md": (
        "compare",
        *(f"{_RUN}{name}*whitebox*" for name in ("ciard_*_s0_099", "ciard_*_s1", "rslad", "sat")),
        *_PGD,
    ),
    "ablation.md": ("compare", f"{_RUN}ciard_*whitebox*", "--attack", "clean", "--attack", "pgd-trades"),
    "teacher.md": ("compare", f"{_RUN}b-mtard_*whitebox*", f"why/{_RUN}b-mtard_*whitebox*", *_PGD),
    "score.md": (
        "compare",
        f"{_RUN}score_*whitebox*",
        f"why/{_RUN}score_*whitebox*",
        f"{_RUN}sat_*_s0_*whitebox*",
        *_PGD,
    ),
}
"""By file in cpu-check/results: the command that prints it, run in cpu-check; names of files may have wildcards."""

_EMBEDDED = re.compile(r"(?P<start><!-- from: (?P<file>\S+) -->\n).*?(?P<end>^<!-- end -->$)", re.DOTALL | re.MULTILINE)


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
        ValueError: a start or an end without the other.
    """

    def text(match: re.Match[str]) -> str:
        content = (folder / match["file"]).read_text(encoding="utf-8").strip()
        content = re.sub(r"^## ", "### ", content, flags=re.MULTILINE)  # it stands below a heading of the page
        return f"{match['start']}\n{content}\n\n{match['end']}"

    marks = page.count("<!-- from: "), page.count("<!-- end -->")
    if not marks[0] == marks[1] == len(_EMBEDDED.findall(page)):
        raise ValueError(f"{marks[0]} starts and {marks[1]} ends of embedded files")
    return _EMBEDDED.sub(text, page)


def _bench(home: Path, arguments: tuple[str, ...]) -> str:
    command = [sys.executable, "-m", "bench", *found(arguments, home)]
    return subprocess.run(command, cwd=home, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    for name, arguments in TABLES.items():
        _bench(HERE / name, arguments)
    for name, arguments in PRINTED.items():
        text = _bench(HERE / "cpu-check", arguments)
        (HERE / "cpu-check" / "results" / name).write_text(text, encoding="utf-8")
    for page in sorted(HERE.glob("*.md")):
        page.write_text(embedded(page.read_text(encoding="utf-8")), encoding="utf-8")
