"""What the README lists is what is there: the tree names every module, the table every family, each link a file."""

import ast
import re
from pathlib import Path

import pytest

from parity_tests.families_table import with_table
from parity_tests.margins import sentence
from parity_tests.mutants.table import MUTANTS

ROOT = Path(__file__).parent.parent
PACKAGES = ("vit_convert", "vit_torch", "train", "vit_tools", "parity_tests", "benchmarks")


def named() -> dict[str, dict[str, str]]:
    """Folder -> the modules that the tree lists under it -> what it says of each."""
    tree = (ROOT / "README.md").read_text(encoding="utf-8").split("## The tree")[1]
    found: dict[str, dict[str, str]] = {}
    folder = ""
    for line in tree.splitlines():
        if heading := re.match(r"(\w+)/ ", line):
            folder = heading[1]
            found[folder] = {}
        elif module := re.match(r"  (\S+\.py) +(.+)", line):
            found[folder][module[1]] = module[2]
    return found


def present(folder: str) -> set[str]:
    modules = (path.relative_to(ROOT / folder).as_posix() for path in (ROOT / folder).rglob("*.py"))
    return {name for name in modules if not name.endswith("__init__.py")}


def test_the_tree_names_every_module_and_no_other():
    tree = named()
    assert {folder: set(tree[folder]) for folder in PACKAGES} == {folder: present(folder) for folder in PACKAGES}
    assert set(tree["vit_flax"]) == present("vit_flax") - present("vit_torch")


def test_the_tree_says_of_each_module_what_its_docstring_says():
    wrong = {
        f"{folder}/{module}": said
        for folder, modules in named().items()
        for module, said in modules.items()
        if said.rstrip(".") not in beginnings(ROOT / folder / module)
    }
    assert not wrong


def beginnings(module: Path) -> set[str]:
    """The first line, sentence and paragraph of a module's docstring, without full stops."""
    text = ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))) or ""
    paragraph = " ".join(text.partition("\n\n")[0].split())
    return {start.rstrip(".") for start in (text.partition("\n")[0], sentence(text), paragraph)}


def test_the_table_of_families_is_the_one_that_is_tested():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert with_table(readme) == readme


@pytest.mark.parametrize(
    "page", ["README.md", *(str(path.relative_to(ROOT)) for path in sorted((ROOT / "docs").rglob("*.md")))]
)
def test_every_relative_link_leads_somewhere(page: str):
    """To a file or folder of the repository; after # to a heading of the page."""
    path = ROOT / page
    for link in links(path.read_text(encoding="utf-8")):
        file, _, heading = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), f"{page} links to {link}, which is not there"
        assert target.is_relative_to(ROOT), f"{page} links to {link}, which is outside the repository"
        if heading and target.suffix == ".md":
            assert heading in headings(target.read_text(encoding="utf-8")), f"{page}: no heading is {link}"


def links(markdown: str) -> list[str]:
    """Those of text and pictures that stay in the repository; what looks like one in code is none."""
    prose = re.sub(r"```.*?```|`[^`\n]*`", "code", markdown, flags=re.DOTALL)
    found = re.findall(r"\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"", prose)
    return [link for pair in found for link in pair if link and not re.match(r"[a-z]+:", link)]


def headings(markdown: str) -> set[str]:
    """The anchors that GitHub gives them."""
    found = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", markdown, flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in found}


def test_links_are_found_and_code_is_not():
    text = '[a](docs/a.md) ![b](b.png#x) `[c](c.md)` [d](https://d.org)\n```\n[e](e.md)\n```\n<img src="f.png">'
    assert links(text) == ["docs/a.md", "b.png#x", "f.png"]
    assert headings("# A `b` c\n\n## D, e\n```\n# f\n```\n") == {"a-b-c", "d-e"}


def test_the_numbers_of_mistakes_are_those_of_the_page_and_the_table():
    """docs/mutants.md is made of a whole run; the README has its numbers."""
    readme, page = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/mutants.md"))
    passing = one(r"\*\*(\d+) of (\d+) mistakes pass a float32 test at atol=5e-2", page)
    seen = one(r"\*\*(\d+) of (\d+) are seen\*\*", page)
    rows = [name for name in re.findall(r"^\| ([^|]+) \|", page.split("## The true code")[0], re.M) if name in MUTANTS]
    assert (passing[1], seen, rows) == (len(MUTANTS), (len(MUTANTS),) * 2, list(dict.fromkeys(rows)))
    assert set(rows) == set(MUTANTS)
    assert one(r"lets (\d+) of (\d+) through\. This suite sees all of them", readme) == passing
    assert one(r"!\[(\d+) deliberate mistakes", readme) == (len(MUTANTS),)
    assert one(r"tested with (\d+) deliberate mistakes", readme) == (len(MUTANTS),)


def one(pattern: str, text: str) -> tuple[int, ...]:
    """The numbers of the only match."""
    found = list(re.finditer(pattern, text))
    assert len(found) == 1, f"{pattern} stands {len(found)} times, expected once"
    return tuple(map(int, found[0].groups()))
