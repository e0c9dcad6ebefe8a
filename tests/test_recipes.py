"""Recipes as commands: `sempre <job> <recipe>`, and as modules that one can call."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from sempre.deploy.command import main
from sempre.recipes import COMMANDS, FOLDER, JOBS, recipes_of, summary_of

ROOT = Path(__file__).parents[1]
RECIPES = {recipe for word in COMMANDS for recipe in recipes_of(word).values()}


def code_of(*arguments: str) -> int | str | None:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return ended.value.code


def test_recipes_are_found_at_the_root_of_a_checkout():
    assert FOLDER == ROOT
    assert {f"{folder}/{path.stem}" for folder in ("pretrain", "finetune") for path in (ROOT / folder).glob("*.py")} < (
        RECIPES
    )


def test_help_lists_every_recipe_under_its_job_on_one_line(capsys):
    assert code_of("--help") == 0
    lines = capsys.readouterr().out.splitlines()
    for job, words in JOBS.items():
        assert f"{job}:" in lines
        for word in words:
            for name, recipe in recipes_of(word).items():
                (line,) = [line for line in lines if line.startswith(f"  {name} ")]
                assert line.split()[len(name.split())] == summary_of(recipe).split()[0]
                assert len(line) <= 120


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_every_recipe_has_a_line_that_says_what_it_does(recipe):
    assert summary_of(recipe).endswith((".", "?"))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("pretrain",), "name one of these"),
        (("pretrain", "fcmea"), "'fcmea' is none of these"),
        (("finetune", "data=my_set"), "'data=my_set' is none of these"),
        (("preprain", "fcmae"), "invalid choice: 'preprain'"),
    ],
)
def test_a_recipe_that_is_not_there_is_told_with_those_that_are(arguments, told, capsys):
    assert code_of(*arguments) == 2
    shown = capsys.readouterr().err
    assert told in shown
    assert arguments[0] == "preprain" or f"  {arguments[0]} " in shown


def test_the_recipes_of_a_job_are_listed_without_importing_any(capsys):
    assert code_of("evaluate", "--help") == 0
    assert "evaluate knn" in capsys.readouterr().out


def test_options_reach_the_recipe_and_its_errors_are_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert code_of("prepare", "images=nowhere", "store=store.h5", "workers=1") == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert code_of("score", "--pred", "nowhere", "--true", "nowhere") == 2
    assert "nowhere" in capsys.readouterr().err
    assert code_of("export", "rnu=1") == 2
    assert "did you mean 'run'?" in capsys.readouterr().err


def test_a_recipe_whose_library_is_missing_says_how_to_install_it(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "timm", None)  # as where it is not installed
    monkeypatch.delitem(sys.modules, "sempre.recipes.pretrain.fcmae", raising=False)
    assert code_of("pretrain", "fcmae", "store=store.h5") == 2
    assert capsys.readouterr().err.startswith("error: sempre pretrain fcmae needs timm: pip install ")


def test_a_recipe_is_a_module_of_its_own():
    shown = subprocess.run(
        [sys.executable, "-m", "sempre.recipes.tools.score", "--help"], check=True, capture_output=True, text=True
    )
    assert "--against" in shown.stdout


def test_main_takes_its_arguments_and_gives_the_exit_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    render = import_module("sempre.recipes.data.synthesize")
    options = ["out=set", "unlabelled=1", "labelled=1", "size=64", "workers=1"]
    assert render.main(options) == 0
    assert len(list((tmp_path / "set").rglob("*.tif"))) >= 2
