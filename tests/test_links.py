"""Relative links in the documentation lead somewhere: to a file that exists, and to a heading in it."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
CODE = re.compile(r"`[^`]*`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def links(text):
    """Of images too; none in code."""
    return LINK.findall(CODE.sub("", FENCED.sub("", text)))


def anchors(text):
    """What GitHub calls the headings: lower case, hyphens for spaces, no other punctuation."""
    headings = re.findall(r"^#+ (.*)$", FENCED.sub("", text), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_finders_find():
    text = "# A b: c_d?\n[one](x.md#y) ![two](z.png) `[no](code)`\n```\n[no](fence)\n# no\n```\n"
    assert links(text) == ["x.md#y", "z.png"]
    assert anchors(text) == {"a-b-c_d"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page):
    for link in links(page.read_text()):
        if re.match(r"\w+:", link):
            continue
        path, _, heading = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), f"{link} leads to no file"
        assert target.resolve().is_relative_to(ROOT), f"{link} leads out of the repository"
        assert not heading or heading in anchors(target.read_text()), f"{link} leads to no heading"
