import re
from dataclasses import dataclass, field, fields
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from sempre.config import changed_keys, help_text, part_of, read_options
from sempre.errors import InputError, run_command

ROOT = Path(__file__).parents[1]
RECIPES = [(ROOT / folder).glob("*.py") for folder in ("pretrain", "finetune", "evaluate", "data", "tools")]


@dataclass
class Options:
    """Of a recipe."""

    store: str = "???"  # file to read
    rate: float = 0.1  # learning rate
    crop: int = 640  # side, px
    range: list[float] = field(default_factory=lambda: [1.0, 2.0])  # low and high


def test_files_go_over_defaults_and_pairs_over_files(tmp_path):
    (tmp_path / "a.yaml").write_text("rate: 0.5\ncrop: 64\n")
    options = read_options(Options, ["crop=32", str(tmp_path / "a.yaml"), "store=s.h5", "range=[0.5,1]"])
    assert options == Options(store="s.h5", rate=0.5, crop=32, range=[0.5, 1.0])


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("rat=1", "unknown option 'rat' in rat=1: did you mean 'rate'"),
        ("rate=fast", "rate=fast has a wrong value: 'fast' is no number"),
        ("missing.yaml", r"missing\.yaml is neither a YAML file nor key=value"),
        ("crop=3", r"store must be given: add store=…"),
    ],
)
def test_mistakes_are_told_in_one_sentence(argument, message):
    with pytest.raises(InputError, match=message):
        read_options(Options, [argument])


def test_an_unknown_key_in_a_file_is_named_with_the_file(tmp_path):
    (tmp_path / "a.yaml").write_text("crops: 64\n")
    with pytest.raises(InputError, match=r"unknown option 'crops' in .*a\.yaml: did you mean 'crop'"):
        read_options(Options, [str(tmp_path / "a.yaml")])


def test_a_file_that_is_no_yaml_is_named(tmp_path):
    (tmp_path / "a.yaml").write_text("rate: [1\n")
    with pytest.raises(InputError, match=r"a\.yaml is not valid YAML"):
        read_options(Options, [str(tmp_path / "a.yaml")])


def test_a_preset_is_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    from finetune.dense import Options as Dense

    shipped = read_options(Dense, ["configs/dense/demo.yaml", "data=x"])
    assert shipped != read_options(Dense, ["data=x"])
    (tmp_path / "configs/dense").mkdir(parents=True)
    (tmp_path / "configs/dense/demo.yaml").write_text("epochs: 7")
    assert read_options(Dense, ["configs/dense/demo.yaml", "data=x"]) == read_options(Dense, ["epochs=7", "data=x"]), (
        "one's own comes first"
    )


def test_a_part_takes_its_own_options():
    @dataclass(frozen=True)
    class Crops:
        crop: int
        rate: float = 7.0

    assert part_of(Options(crop=32), Crops) == Crops(crop=32, rate=0.1)


def test_help_shows_each_option_with_its_comment_and_default(capsys):
    with pytest.raises(SystemExit) as exit_:
        read_options(Options, ["--help"])
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    assert "crop                   side, px [640]" in text
    assert "store                  file to read (required)" in text


def test_every_shipped_configuration_is_read():
    from finetune.mask_rcnn import Options as MaskRCNN
    from pretrain.fcmae import Options as FCMAE
    from pretrain.spark import Options as SparK

    configs = ROOT / "configs"
    for recipe, options in (("fcmae", FCMAE), ("spark", SparK), ("mask_rcnn", MaskRCNN)):
        files = sorted((configs / recipe).glob("*.yaml"))
        assert files
        for file in files:
            read_options(options, [str(file), "data=x" if recipe == "mask_rcnn" else "store=x"])


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (InputError("a\nb"), 2, "error: a b\n"),
        (FileNotFoundError(2, "No such file", "x.tif"), 2, "error: [Errno 2] No such file: 'x.tif'\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_commands_print_one_line_and_a_code(error, code, text, capsys):
    def main():
        raise error

    with pytest.raises(SystemExit) as exit_:
        run_command(main)
    assert exit_.value.code == code
    assert capsys.readouterr().err == text


def test_bugs_keep_their_traceback():
    def main():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_command(main)


@pytest.mark.parametrize("script", sorted(str(file.relative_to(ROOT)) for folder in RECIPES for file in folder))
def test_every_option_of_every_recipe_is_explained(script):
    recipe = import_module(script.removesuffix(".py").replace("/", "."))
    if not hasattr(recipe, "Options"):
        return
    shown = help_text(recipe.Options).partition("options, as key=value")[2].splitlines()[1:]
    assert len(shown) == len(fields(recipe.Options))
    for line in shown:
        assert re.match(r"  \w+ +[^\[( ]", line), f"{script}: an option is not explained: {line.strip()}"


def test_the_page_of_options_is_that_of_the_recipes():
    spec = spec_from_file_location("options_page", ROOT / "docs/options.py")
    assert spec and spec.loader
    page = module_from_spec(spec)
    spec.loader.exec_module(page)
    assert (ROOT / "docs/options.md").read_text(encoding="utf-8") == page.page_of_options(), "python docs/options.py"


@pytest.mark.parametrize("recipe", ["evaluate.prototypes", "evaluate.transfer"])
def test_one_preset_of_prototypes_is_for_both_evaluations(recipe):
    options = import_module(recipe).Options
    given = ["data=x", "backbones=[intensity]" if recipe == "evaluate.transfer" else "backbone=intensity"]
    read = read_options(options, [str(ROOT / "configs/papers/prototypes.yaml"), *given])
    assert (read.points, read.percent, read.threshold, read.weight, read.size) == (25, 10.0, "top", 0.8, 980)
    assert (read.slices, read.skip, read.channel, read.label_channel) == (100, 40, -2, -1)


@pytest.mark.parametrize("pair", ["epochs=[", "epochs=\x13", "epochs=${oc.env:HOME}", "epochs={a: 1}: b", "epochs=${"])
def test_values_that_are_no_yaml_are_named(pair):
    @dataclass
    class Epochs:
        epochs: int = 1

    with pytest.raises(InputError):
        read_options(Epochs, [pair])


def test_saved_options_that_are_damaged_are_named(tmp_path):
    @dataclass
    class Epochs:
        epochs: int = 1

    for content in ("- a\n- b\n", "a: [", "7"):
        (tmp_path / "config.yaml").write_text(content)
        with pytest.raises(InputError, match=r"config\.yaml"):
            changed_keys(Epochs(), tmp_path / "config.yaml")


def test_a_run_from_before_an_option_existed_goes_on_with_its_default(tmp_path):
    @dataclass
    class Epochs:
        epochs: int = 1
        newer: str = "as it was"

    (tmp_path / "config.yaml").write_text("epochs: 2\n")
    assert not changed_keys(Epochs(epochs=2), tmp_path / "config.yaml")
    changed = changed_keys(Epochs(epochs=2, newer="other"), tmp_path / "config.yaml")
    assert changed == ["newer: as it was -> other"]


def test_every_preset_of_a_document_is_run_by_a_test():
    tests = "".join(file.read_text() for file in (ROOT / "tests/recipes").glob("test_*.py"))
    presets = [file.name for file in (ROOT / "configs/papers").glob("*.yaml")]
    assert presets
    assert not [name for name in presets if name not in tests]
