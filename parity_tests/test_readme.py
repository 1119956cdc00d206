"""What the README lists is what is there: its file tree names every module, its table every family that is tested."""

import re
from pathlib import Path

from parity_tests.families_table import with_table

ROOT = Path(__file__).parent.parent
PACKAGES = ("vit_convert", "vit_torch", "train", "vit_tools", "parity_tests", "benchmarks")


def named() -> dict[str, set[str]]:
    """Folder -> the modules that the tree lists under it."""
    tree = (ROOT / "README.md").read_text(encoding="utf-8").split("## The tree")[1]
    found: dict[str, set[str]] = {}
    folder = ""
    for line in tree.splitlines():
        if heading := re.match(r"(\w+)/ ", line):
            folder = heading[1]
            found[folder] = set()
        elif module := re.match(r"  (\S+\.py) ", line):
            found[folder].add(module[1])
    return found


def present(folder: str) -> set[str]:
    modules = (path.relative_to(ROOT / folder).as_posix() for path in (ROOT / folder).rglob("*.py"))
    return {name for name in modules if not name.endswith("__init__.py")}


def test_the_tree_names_every_module_and_no_other():
    tree = named()
    assert {folder: tree[folder] for folder in PACKAGES} == {folder: present(folder) for folder in PACKAGES}
    assert tree["vit_flax"] == present("vit_flax") - present("vit_torch")


def test_the_table_of_families_is_the_one_that_is_tested():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert with_table(readme) == readme
