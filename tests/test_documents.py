"""The page by which somebody from one of the documents finds its methods: what it names is there."""

import re
from dataclasses import fields
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PRESETS = ROOT / "configs/papers"
PAGE = (ROOT / "docs/papers.md").read_text(encoding="utf-8")
PAGES = "".join(file.read_text(encoding="utf-8") for file in ROOT.glob("sempre/report/**/*.py"))
SECTIONS = re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]
RECIPE = r"\b((?:data|pretrain|finetune|evaluate|tools)/\w+)\.py"
STUDY_DOI = "10.1038/s41524-025-01802-3"


def rows_of(section: str) -> list[str]:
    return [line for line in section.splitlines() if line.startswith("| ") and not line.startswith("| ---")][1:]


def commands_of(section: str) -> dict[str, set[str]]:
    """Each row of the section's table, and the recipes that it is about: those named, those that a letter stands for
    (`P: ...`), else those that the section's beginning names."""
    beginning = section.split("\n| ")[0]
    letters = dict(re.findall(rf"\b([A-Z])(?:: | stands for )`(?:python )?{RECIPE}", beginning))
    recipes = {}
    for row in rows_of(section):
        meant = {letters[letter] for letter in re.findall(r"\b[A-Z]\b(?!-)", row) if letter in letters}
        recipes[row] = set(re.findall(RECIPE, row)) | meant or set(re.findall(RECIPE, beginning))
    return recipes


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.split("\n")[0])
def test_every_recipe_option_and_preset_in_the_table_of_documents_is_there(section):
    assert len(rows_of(section)) >= 7
    for row, recipes in commands_of(section).items():
        options = {option for recipe in recipes for option in recipe_options(recipe)}
        for span in re.findall(r"`([^`]+)`", row):
            for name in re.findall(r"(?<![\w.-])(\w+)=", span):
                assert name in options, f"{name}= is no option of {', '.join(sorted(recipes))}: {row}"
        for place in re.findall(r'"([A-Z][^"…]+)', row.split(" | ")[2]):
            assert f'ding("{place.strip()}' in PAGES or f'ding(f"{place.strip()}' in PAGES, (
                f"no page has {place}: {row}"
            )
    for file in re.findall(r"[\w/.-]+\.(?:yaml|sbatch)", section):
        assert (ROOT / file).is_file() or (PRESETS / file).is_file(), file
    for address in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", section):
        assert address.startswith("http") or (ROOT / "docs" / address).is_file(), address


def recipe_options(recipe: str) -> list[str]:
    """The names of a recipe's options; none of those of tools/score.py, which has flags."""
    options = getattr(import_module(recipe.replace("/", ".")), "Options", None)
    return [field.name for field in fields(options)] if options else []


def test_every_preset_is_in_the_table():
    assert not [file.name for file in PRESETS.glob("*.yaml") if file.stem not in PAGE]


def test_what_speaks_of_the_study_says_which():
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("data/*.md")]
    speaking = [page for page in pages if re.search(r"\bthe study(?:'s|¹)", page.read_text(encoding="utf-8"))]
    assert speaking
    without = [page for page in [*speaking, *PRESETS.glob("study_*.yaml")] if STUDY_DOI not in page.read_text("utf-8")]
    assert not without


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.name)
def test_no_block_of_commands_gives_one_name_to_two_runs(page):
    """Pasted line by line, the second would be refused: a run's folder goes on under the same options alone."""
    for block in re.findall(r"```(?:sh|bash)\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        commands = block.replace("\\\n", " ").splitlines()
        named = {}
        for command in commands:
            found = re.search(r"((?:pretrain|finetune)/\w+\.py) (.*)", command.partition("  #")[0])
            name = found and re.search(r"\bname=(\S+)", found[2])
            if found and name:
                recipe = (found[1], found[2].split())
                assert named.setdefault(name[1], recipe) == recipe, f"{page.name}: {command}"
