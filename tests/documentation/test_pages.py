"""What holds for all pages together: links, length, and a place in the site."""

import re
from pathlib import Path

import pytest

from deploy.documentation import site
from tests.support.pages import DOCS, ROOT, pages, written

LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)(?:#[^)\s]*)?\)")
MOST_WORDS = 12_000
MOST_README_LINES = 120


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text()):
        assert (page.parent / link).exists(), f"{page.name} links to {link}"


def test_the_site_lists_every_page_once() -> None:
    assert sorted(site.listed_pages()) == sorted(site.pages())


def test_the_pages_are_short_enough_to_be_read() -> None:
    """Code and what commands wrote aside."""
    texts = (re.sub(r"^```.*?^```$", "", written(page), flags=re.MULTILINE | re.DOTALL) for page in DOCS.rglob("*.md"))
    words = sum(len(re.findall(r"\S*\w\S*", text)) for text in texts)
    assert words <= MOST_WORDS, f"{words:,} words: cut something"
    assert (ROOT / "README.md").read_text().count("\n") <= MOST_README_LINES
