"""The code in the README and in docs/ runs, and prints what it says."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

import tinyxp

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(python|pycon)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LOOP = re.compile(r"^(for step in range\()\d+\)", re.MULTILINE)
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def blocks(text: str):
    return [(m[1], m[2], text.count("\n", 0, m.start(2))) for m in BLOCK.finditer(text)]


def run(name: str, text: str):
    """Run the blocks of a page one after the other, in one namespace; return what pycon blocks got wrong.

    Training loops, ``for step in range(…)``, stop after three steps.
    """
    text = LOOP.sub(r"\g<1>3)", text)
    namespace: dict[str, object] = {}
    wrong: list[str] = []
    for kind, code, line in blocks(text):
        if kind == "python":
            exec(compile("\n" * line + code, name, "exec"), namespace)
        else:
            test = doctest.DocTestParser().get_doctest(code, namespace, name, name, line)
            runner = doctest.DocTestRunner(optionflags=FLAGS)
            runner.run(test, out=wrong.append, clear_globs=False)
            namespace.update(test.globs)
    return wrong


@pytest.fixture
def _restored():
    device = tinyxp.get_default_device()
    yield
    tinyxp.set_default_device(device)


WITH_CODE = [p for p in PAGES if blocks(p.read_text(encoding="utf-8"))]


@pytest.mark.usefixtures("_restored")
@pytest.mark.parametrize("page", WITH_CODE, ids=lambda p: p.name)
def test_code_of_the_page_runs(page, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert "".join(run(page.name, page.read_text(encoding="utf-8"))) == ""


def test_a_wrong_page_is_seen():
    assert "Expected" in "".join(run("page", "```pycon\n>>> 1 + 1\n3\n```\n"))
    with pytest.raises(ZeroDivisionError):
        run("page", "```python\n1 / 0\n```\n")


def links(text: str):
    """Relative targets of Markdown links."""
    return [t for t in re.findall(r"\]\(([^)#\s]+)", text) if "://" not in t]


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    found = links(page.read_text(encoding="utf-8"))
    assert [t for t in found if not (page.parent / t).exists()] == []


def test_a_dead_link_is_seen():
    assert links("see [this](no/such.md) and [that](https://example.org)") == ["no/such.md"]
