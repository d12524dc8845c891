"""`make docs`: the Markdown of docs/ as a searchable site in site/, which loads nothing from another host.

The standard library alone; Zensical runs in an environment of its own. A dead link, a dead anchor, a page that
`zensical.toml` does not list and anything from a foreign host end it with exit status 1.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
DOCS: Final = ROOT / "docs"
SITE: Final = ROOT / "site"
CONFIGURATION: Final = ROOT / "zensical.toml"
OUTSIDE: Final = "repository"
"""The site's folder for the files of the repository that pages link to."""

DEADLINE_S: Final = 300
LINK: Final = re.compile(r"\]\((?!https?:|#)([^)#\s]+)(#[^)\s]*)?\)")
FOREIGN: Final = re.compile(r"<(?:script|link|img|iframe|source)\b[^>]*\b(?:src|href)=[\"']?(https?:)?//[^>]*>")
COLOURS: Final = re.compile(r"\x1b\[[\d;]*m")
CODE: Final = re.compile(r"^```.*?^```$", flags=re.MULTILINE | re.DOTALL)


def main() -> None:
    """Stage the pages, build them strictly, and put the site into its place."""
    orphans = sorted(pages() - set(listed_pages()))
    if orphans:
        sys.exit(f"zensical.toml does not list {', '.join(orphans)}: add them to `nav`")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stage(folder / "docs")
        shutil.copy(CONFIGURATION, folder)
        command = [str(Path(sys.executable).parent / "zensical"), "build", "--strict", "--clean"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
        if done.returncode:
            sys.exit(COLOURS.sub("", done.stdout + done.stderr).partition("Traceback")[0])
        foreign = sorted(foreign_hosts(folder / "site"))
        if foreign:
            sys.exit("pages load from other hosts:\n" + "\n".join(foreign))
        shutil.rmtree(SITE, ignore_errors=True)
        shutil.move(folder / "site", SITE)
    print(f"{len(pages())} pages are in {SITE.relative_to(ROOT)}/: open {SITE.relative_to(ROOT)}/index.html")


def pages() -> set[str]:
    """Every Markdown file below docs/, by its path there."""
    return {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}


def listed_pages() -> Iterator[str]:
    """The pages in `nav` of zensical.toml."""

    def paths(entry: Any) -> Iterator[str]:
        if isinstance(entry, str):
            yield entry
        else:
            for below in entry.values() if isinstance(entry, dict) else entry:
                yield from paths(below)

    return paths(tomllib.loads(CONFIGURATION.read_text())["project"]["nav"])


def stage(folder: Path) -> None:
    """Copy docs/ into `folder`, with the repository's files that pages link to, so that the site is whole by itself."""
    shutil.copytree(DOCS, folder)
    waiting = [(path, folder / path.relative_to(DOCS)) for path in sorted(DOCS.rglob("*.md"))]
    seen: set[Path] = set()
    while waiting:
        source, copy = waiting.pop()

        def staged(match: "re.Match[str]", source: Path = source, copy: Path = copy) -> str:
            target = (source.parent / match[1]).resolve()
            if target.is_relative_to(DOCS) and source.is_relative_to(DOCS):
                return match[0]
            if not target.is_relative_to(ROOT) or not target.is_file():
                return "]" if target.is_dir() else match[0]  # Zensical names a file that does not exist
            if target.is_relative_to(DOCS):
                moved = folder / target.relative_to(DOCS)
            else:
                moved = folder / OUTSIDE / target.relative_to(ROOT)
                if target not in seen:
                    seen.add(target)
                    moved.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(target, moved)
                    if target.suffix == ".md":
                        waiting.append((target, moved))
            return f"]({os.path.relpath(moved, copy.parent)}{match[2] or ''})"

        text = source.read_text()
        parts = re.split(f"({CODE.pattern})", text, flags=CODE.flags)
        copy.write_text("".join(part if CODE.fullmatch(part) else LINK.sub(staged, part) for part in parts))


def foreign_hosts(folder: Path) -> Iterator[str]:
    """What the site's pages would load from another host, Mermaid's program for its diagrams included."""
    for path in sorted(folder.rglob("*.html")):
        text = path.read_text()
        for match in FOREIGN.finditer(text):
            if 'rel="canonical"' not in match[0]:
                yield f"{path.relative_to(folder)}: {match[0]}"
        if 'class="mermaid"' in text:
            yield f"{path.relative_to(folder)}: a Mermaid diagram; draw an SVG"


if __name__ == "__main__":
    main()
