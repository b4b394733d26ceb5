"""The pages that a reader sees, and what stands in them: links, commands, code spans, tables."""

import re
import shlex
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^( *)```.*?^\1```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"(`+)(.+?)\1")
LINK = re.compile(r"(?<!\\)\]\(\s*<?([^)\s>]+)")
CALL = re.compile(r"\s*(?:\w+=\S*\s+)*unet-pipeline(?=\s|$)")
CONTINUED = re.compile(r"\\\n\s*")


@cache
def files() -> tuple[str, ...]:
    """All files of the repository, those that are not committed yet, too."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return tuple(name for name in listed.splitlines() if (ROOT / name).is_file())


def pages() -> list[Path]:
    """All pages but the changelog, which tells of what was."""
    return [ROOT / n for n in files() if n.endswith(".md") and n.split("/")[0] in OF_READERS]


OF_READERS = {"README.md", "SECURITY.md", "CONTRIBUTING.md", "docs", "deploy"}


def named(page: Path) -> str:
    """The page's name in the repository."""
    return page.relative_to(ROOT).as_posix()


def prose(text: str) -> str:
    """The text without its blocks of code."""
    return "\n".join(
        line for line in FENCE.sub("", text).splitlines() if not line.startswith("    ")
    )


def blocks(text: str) -> str:
    """The lines of its blocks of code, those that end with a backslash joined."""
    fenced = "\n".join(found.group() for found in FENCE.finditer(text))
    indented = "\n".join(
        line for line in FENCE.sub("", text).splitlines() if line.startswith("    ")
    )
    return CONTINUED.sub(" ", f"{fenced}\n{indented}")


def spans(text: str) -> list[str]:
    """What stands in backticks in the prose."""
    return [found.group(2).strip() for found in SPAN.finditer(prose(text))]


def links(text: str) -> list[str]:
    """The targets of its links."""
    return LINK.findall(SPAN.sub("", prose(text)))


def anchors(text: str) -> set[str]:
    """The anchors of its headings, as a forge makes them."""
    found: dict[str, int] = {}
    made = set()
    for heading in re.findall(r"^#+ +(.+?) *$", FENCE.sub("", text), re.MULTILINE):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        name = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        made.add(name if name not in found else f"{name}-{found[name]}")
        found[name] = found.get(name, 0) + 1
    return made


def first_cells(text: str, *heads: str) -> Iterator[str]:
    """The first cell of each row of the tables whose first column is called so."""
    inside = False
    for line in prose(text).splitlines():
        if not line.startswith("|"):
            inside = False
            continue
        cell = line.split("|")[1].strip()
        if inside and not set(cell) <= set("-: "):
            yield cell
        inside = inside or cell in heads


def commands(text: str) -> Iterator[list[str]]:
    """The words behind ``unet-pipeline``, of each time that it is called in the text."""
    for line in (*blocks(text).splitlines(), *spans(text)):
        for part in re.split(r"&&|\|\|?|;|`", line):
            if called := CALL.match(part):
                yield shlex.split(part[called.end() :], comments=True)
