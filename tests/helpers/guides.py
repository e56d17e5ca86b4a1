"""What README.md and the guides in docs/ show and name, found in their text."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from itertools import product
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
GUIDES = [
    PROJECT / "README.md",
    PROJECT / "config" / "README.md",
    *sorted((PROJECT / "docs").rglob("*.md")),
]
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
PROGRAMS = re.compile(r"(edgeward|snakemake|python|make|tools/\S+)(\s|$)")


@dataclass(frozen=True)
class Block:
    """A fenced block; `before` is the text from the heading or the block above it."""

    guide: Path
    line: int
    language: str
    text: str
    before: str

    def __str__(self) -> str:
        return f"{self.guide.relative_to(PROJECT)}:{self.line}"


def blocks(*languages: str) -> list[Block]:
    """Return the fenced blocks in these languages; "" is a block without one."""
    found = []
    for guide in GUIDES:
        text, end = guide.read_text(), 0
        for fence in FENCE.finditer(text):
            indent, language, inner = fence.groups()
            inner = re.sub(rf"^{indent}", "", inner, flags=re.MULTILINE)
            before = re.split(r"^#+ .*$", text[end : fence.start()], flags=re.MULTILINE)[-1]
            line = text.count("\n", 0, fence.start()) + 1
            found.append(Block(guide, line, language, inner, before))
            end = fence.end()
    return [block for block in found if block.language in languages]


def python(mark: str) -> str:
    """Return the Python block that holds `mark`; there is one."""
    [block] = [block for block in blocks("python") if mark in block.text]
    return block.text


def prose(guide: Path) -> str:
    """Return the text of a guide without its blocks, on one line."""
    return " ".join(FENCE.sub("", guide.read_text()).split())


def spans(guide: Path) -> list[str]:
    """Return what stands between backticks in the prose of a guide."""
    return re.findall(r"`([^`]+)`", prose(guide))


def _braces(word: str) -> list[str]:
    """Expand ``{a,b}`` as a shell does."""
    parts = re.split(r"\{([^{}]*,[^{}]*)\}", word)
    choices = [p.split(",") if i % 2 else [p] for i, p in enumerate(parts)]
    return ["".join(chosen) for chosen in product(*choices)]


def _words(line: str) -> list[str]:
    # What is quoted is one word to the shell, braces and all.
    lexer = shlex.shlex(line, posix=False, punctuation_chars=False)
    lexer.whitespace_split = True
    words = [w for word in lexer for w in ([word] if re.search("['\"]", word) else _braces(word))]
    return [w for word in words for w in shlex.split(word)]


def commands() -> list[tuple[str, list[str]]]:
    """Return where and as which words the guides call the project's programs, in blocks and between backticks."""
    lines = []
    for block in blocks(""):
        joined = block.text.replace("\\\n", " ")
        lines += [(str(block), line) for line in joined.splitlines()]
    for guide in GUIDES:
        lines += [(str(guide.relative_to(PROJECT)), span) for span in spans(guide) if " " in span]
    return [
        (where, [word for word in _words(line) if word != "&"])
        for where, line in lines
        if PROGRAMS.match(line)
    ]
