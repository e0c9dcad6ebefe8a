"""Every option of every recipe: text as it is given, and no value that it cannot have."""

import math
import os
from dataclasses import MISSING, dataclass, field, fields
from importlib import import_module
from pathlib import Path
from typing import Annotated, Literal, get_args, get_origin

import pytest
import yaml

from sempre.config import changed_keys, help_text, read_options, save_options, saved_options
from sempre.errors import InputError
from sempre.ranges import Items, OneOf, Range, Several, Share, check_ranges, rules_of
from tests.in_process import run_here

ROOT = Path(__file__).parents[1]
FOLDERS = ("pretrain", "finetune", "evaluate", "data", "tools")
SCRIPTS = sorted(str(file.relative_to(ROOT)) for folder in FOLDERS for file in (ROOT / folder).glob("*.py"))
RECIPES = [script for script in SCRIPTS if script != "tools/score.py"]  # which reads its arguments with argparse
ODD_TEXTS = (
    *("2026_11_30", "20261130_0930", "007", "12:30", "1:20:30", "on", "off", "yes", "no", "y", "null", "~", "1e5"),
    *("1.50", ".5", "0x10", "0o7", "+1", "-", "nan", ".inf", "2026-11-30", "true", "a #1.h5", "#", "a: b", "a:", "[x]"),
    *("[x", "{a}", "{a: 1}", "'q'", '"q"', "a=b.h5", "=", "a,b", " lead", "trail ", "@x", "%x", "*.h5", "&x", "!x"),
    *("${HOME}", "${oc.env:HOME}/x", "${", "$TMPDIR/x", "\\", "C:\\new\\table", "µ-Proben Ä", "a\tb", "???.h5", "- a"),
)


def options_of(script: str):
    return import_module(script.removesuffix(".py").replace("/", ".")).Options


def required(options_class, but: str = "") -> list[str]:
    """Arguments that give each option without a default a value that it can have."""
    kinds = rules_of(options_class)
    return [
        f"{one.name}={'[x]' if get_origin(kinds[one.name][0]) is list else 'x'}"
        for one in fields(options_class)
        if one.name != but and one.default in ("???", MISSING) and one.default_factory is MISSING
    ]


def texts(options_class) -> list[str]:
    """Names of the options that take any text."""
    rules = rules_of(options_class)
    return [one.name for one in fields(options_class) if rules[one.name][0] is str and not rules[one.name][1]]


@pytest.mark.parametrize("script", RECIPES)
def test_text_is_what_stands_behind_the_equals_sign(script, tmp_path):
    options_class = options_of(script)
    for name in texts(options_class):
        for text in ODD_TEXTS:
            options = read_options(options_class, [*required(options_class, name), f"{name}={text}"])
            assert getattr(options, name) == text


@pytest.mark.parametrize("text", [text for text in ODD_TEXTS if "\\" not in text])
def test_a_run_has_the_name_that_was_given_and_goes_on_under_it(text, tmp_path):
    from pretrain.fcmae import Options

    options = read_options(Options, ["store=a.h5", f"name={text}", f"weights={text}"])
    assert (options.name, options.weights) == (text, text)
    save_options(options, tmp_path / "config.yaml")
    assert yaml.safe_load((tmp_path / "config.yaml").read_text(encoding="utf-8"))["name"] == text
    assert not changed_keys(options, tmp_path / "config.yaml")
    assert saved_options(tmp_path / "config.yaml")["weights"] == text
    if "${" not in text:  # which a file of options reads from the environment
        assert read_options(Options, [str(tmp_path / "config.yaml")]) == options


@pytest.mark.parametrize("name", ["", "..", "../other", "a/../../b", "/tmp/run", ".", "./"])
def test_a_run_lies_below_runs(name):
    from pretrain.spark import Options

    with pytest.raises(InputError, match=r"^name="):
        read_options(Options, ["store=a.h5", f"name={name}"])
    assert read_options(Options, ["store=a.h5", "name=demo/probe/..."]).name == "demo/probe/..."


def test_items_of_a_list_are_text_as_well():
    @dataclass
    class Options:
        backbones: list[str]
        foreground: list[int] = field(default_factory=list)
        seconds: dict[str, float] = field(default_factory=dict)

    def read(text: str) -> list[str]:
        return read_options(Options, [f"backbones={text}"]).backbones

    assert read("[007,12:30,on,null,1e5,a #1,x=[b,c],2026_11_30]") == [
        *("007", "12:30", "on", "null", "1e5", "a #1", "x=[b,c]", "2026_11_30")
    ]
    assert read("[ a b , \"c, d\" ,'e]']") == ["a b", "c, d", "e]"]
    assert read("[]") == read("[ ]") == []
    assert read("[it's,5 o'clock]") == ["it's", "5 o'clock"]
    given = read_options(Options, ["backbones=[a]", "foreground=[1, 02,-3]", "seconds={fcmae: 0.5, dense: 2}"])
    assert (given.foreground, given.seconds) == ([1, 2, -3], {"fcmae": 0.5, "dense": 2.0})
    for wrong in ("a", "[a", "a]", "[a]]", "[[a]", "['a]", "", "{a}"):
        with pytest.raises(InputError, match=r"^backbones="):
            read(wrong)
    for wrong in ("foreground=[1.5]", "foreground=[on]", "foreground=[1:30]", "foreground=[1,]", "seconds={fcmae:}"):
        with pytest.raises(InputError, match=r"^(foreground|seconds)="):
            read_options(Options, ["backbones=[a]", wrong])


def wrong_values(kind, rules) -> list[str]:
    """Texts that no option of this type and range can have, one step beyond each end among them."""
    number = get_args(kind)[-1] if get_origin(kind) in (list, dict) else kind
    if number not in (int, float):
        number = next((part for part in get_args(number) if part is int), number)
    beyond: list[float] = []
    for rule in rules:
        if isinstance(rule, Range):
            step = 1 if number is int else 1e-6
            beyond += [rule.least - step] if rule.least is not None else []
            beyond += [rule.most + step] if rule.most is not None else []
            beyond += [value for value in (rule.above, rule.below) if value is not None]
            beyond += [rule.least + 1] if rule.step is not None and rule.least is not None else []
    wrong = [*map(repr, beyond), "nan", "inf", "-inf", "", "many", "1:30", "0x10"]
    wrong += ["1.5", "8.0", "1e3", "true"] if number is int else ["fast"]
    if get_origin(kind) is list:
        counts = next((rule.counts for rule in rules if isinstance(rule, Items)), (1,))
        alone = [f"[{','.join([value] * max(counts))}]" for value in wrong if value]
        return [*alone, "", "1,2", *(["[1]", "[1,2,3]", "[]"] if 2 in counts and 0 not in counts else [])]
    return [f"{{a: {value}}}" for value in wrong] if get_origin(kind) is dict else wrong


@pytest.mark.parametrize("script", RECIPES)
def test_values_that_no_option_can_have_are_refused_in_one_line(script):
    options_class = options_of(script)
    for name, (kind, rules) in rules_of(options_class).items():
        inner = get_args(kind) or (kind,)
        if bool in inner:
            wrong = ["ture", "", "2", "none", "null"]
        elif int in inner or float in inner:
            assert any(isinstance(rule, Range) for rule in rules), f"{script}: {name} has no range"
            wrong = wrong_values(kind, rules)
        elif any(isinstance(rule, OneOf) for rule in rules):
            wrong = ["[other]", "[]]", "other"] if get_origin(kind) is list else ["other", "", "AUTO", " none", "None"]
        else:
            continue
        for text in wrong:
            with pytest.raises(InputError) as error:
                read_options(options_class, [*required(options_class, name), f"{name}={text}"])
            message = str(error.value)
            assert message.startswith(f"{name}=") and "\n" not in message, (script, name, text, message)


@pytest.mark.parametrize("script", RECIPES)
def test_every_default_lies_in_its_range(script):
    options_class = options_of(script)
    check_ranges(read_options(options_class, required(options_class)))


def test_ranges_hold_for_files_too(tmp_path):
    from finetune.dense import Options

    for line in ("epochs: -1", "rate: .nan", "size_range: [1.0]", "accumulation: 0", "epochs: 1.5", "epochs: true"):
        (tmp_path / "a.yaml").write_text(line)
        with pytest.raises(InputError, match=line.split(":")[0]):
            read_options(Options, ["data=x", str(tmp_path / "a.yaml")])
    (tmp_path / "a.yaml").write_text("- epochs\n")
    with pytest.raises(InputError, match=r"a\.yaml holds no options"):
        read_options(Options, ["data=x", str(tmp_path / "a.yaml")])
    (tmp_path / "a=b.yaml").write_text("epochs: 7\ndata: ${oc.env:HOME}\nname: 007\n")
    read = read_options(Options, [str(tmp_path / "a=b.yaml")])
    assert (read.epochs, read.data, read.name) == (7, os.environ["HOME"], "7")


def test_help_says_what_each_option_may_be():
    from pretrain.fcmae import Options

    shown = dict(line.split(maxsplit=1) for line in help_text(Options).splitlines() if line.startswith("  "))
    assert shown["crop"] == "side of the random crops, px; 64 or more, a multiple of 32 [640]"
    assert shown["flip"].endswith("; 0 to 1 [0.5]")
    assert shown["encoder"].endswith("; packed or minkowski [packed]")
    assert shown["store"].endswith("(required)")
    assert shown["weights"].endswith('[""]')


def test_the_words_of_a_range_are_those_of_its_complaint():
    @dataclass
    class Options:
        share: Share = 0.5
        kept: Literal["last", "lowest"] = "last"
        pair: Annotated[list[float], Items(2, rising=True), Range(above=0, below=1)] = field(default_factory=list)
        runs: Several = field(default_factory=lambda: ["a"])

    for wrong, message in (
        (Options(share=2.0), "share=2 is out of range: give 0 to 1"),
        (Options(share=math.nan), "share=nan is not finite: give 0 to 1"),
        (Options(kept="both"), "kept=both is unknown: choose last or lowest"),  # pyright: ignore[reportArgumentType]
        (Options(pair=[0.5]), "pair=[0.5] is out of range: give a list of 2, the smallest first"),
        (Options(pair=[0.5, 0.2]), "pair=[0.5,0.2] is out of range: give a list of 2, the smallest first"),
        (Options(pair=[0.5, 1.0]), "pair=[0.5,1] is out of range: give more than 0 and less than 1"),
        (Options(pair=[0.1, 0.2], runs=[]), "runs=[] is empty: give at least one"),
    ):
        with pytest.raises(InputError) as error:
            check_ranges(wrong)
        assert str(error.value) == message


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "given", "name"),
    [
        ("pretrain/fcmae.py", ["store=missing.h5", "log_every=0"], "log_every"),
        ("pretrain/dino.py", ["store=missing.h5", "epochs=0"], "epochs"),
        ("finetune/mask_rcnn.py", ["data=missing", "scale_range=[1]"], "scale_range"),
        ("finetune/dense.py", ["data=missing", "label_count=-1"], "label_count"),
        ("evaluate/watershed.py", ["data=missing", "smoothing=nan"], "smoothing"),
        ("data/synthesize.py", ["out=made", "size=0"], "size"),
    ],
)
def test_nothing_is_read_or_made_before_a_wrong_option_is_told(script, given, name, tmp_path):
    arguments = [*given, *([] if script.startswith("data/") else ["name=mine"])]
    ended = run_here(script, *arguments, cwd=tmp_path)
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"error: {name}=") and ended.stderr.count("\n") == 1, ended.stderr
    assert not list(tmp_path.iterdir())
