"""Recipes of containers and of the conda environment, which are not built here: linted, and held against setup.py."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
CONTAINERS = ROOT / "containers"
DOCKERFILE, DEFINITION = CONTAINERS / "Dockerfile", CONTAINERS / "sempre.def"
CONDA_NAMES = {"matplotlib": "matplotlib-base"}  # conda-forge's, where it has another
PROGRAMS = {"apt-get", "rm", "cd", "useradd", "python3", "command", "set", "exec", "export", "sempre"}


def requirements() -> tuple[list[str], set[str]]:
    """What setup.py asks for: the base dependencies, and the names of the extras."""
    code = (
        "import json, setuptools; given = {}\n"
        "setuptools.setup = given.update\n"
        "setuptools.setup = lambda **options: given.update(options)\n"
        "exec(compile(open('setup.py').read(), 'setup.py', 'exec'), {'__file__': 'setup.py'})\n"
        "print(json.dumps([given['install_requires'], list(given['extras_require'])]))"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    base, extras = json.loads(found.stdout)
    return base, set(extras)


def instructions(text: str) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile, each with the rest of its line, continued lines joined."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in joined.splitlines())]


def sections(text: str) -> dict[str, list[str]]:
    """The lines of each section of a definition, "" is the header; without comments."""
    found: dict[str, list[str]] = {"": []}
    name = ""
    for line in text.splitlines():
        if line.startswith("%"):
            name = line[1:].strip()
            found[name] = []
        elif line.strip() and not line.strip().startswith("#"):
            found[name].append(line.strip())
    return found


def programs(script: str) -> set[str]:
    """The first word of each command of a shell script."""
    commands = re.split(r"&&|\|\||;|\n|\bthen\b|\bfi\b|\bif\b|(?<!\S)!(?!\S)", script)
    return {words[0] for command in commands if (words := command.split()) and words[0] not in ("[", "\\")}


def check_shell(script: str) -> None:
    ended = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    unknown = {name for name in programs(script) if Path(name).name not in {*PROGRAMS, "python"}}
    assert not unknown, f"{unknown} is not in the image"


def check_extras(text: str) -> None:
    _, extras = requirements()
    named = set(re.findall(r"\b(?:extras|EXTRAS)=([\w,]+)", text))
    assert named
    for names in named:
        assert set(names.split(",")) <= extras, f"setup.py has not all of {names}"


def check_pinned(image: str) -> None:
    name, _, tag = image.partition(":")
    assert re.search(r"\d+\.\d+\.\d+", tag), f"{name} is not pinned to a version: {image}"


def test_hadolint_finds_nothing_in_the_dockerfile():
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed")
    linted = subprocess.run([hadolint, "--no-color", DOCKERFILE], capture_output=True, text=True, check=False)
    assert (linted.returncode, linted.stdout) == (0, "")


def test_the_dockerfile_names_what_is_there():
    text = DOCKERFILE.read_text(encoding="utf-8")
    steps = instructions(text)
    stages = [rest.split(" AS ") for name, rest in steps if name == "FROM"]
    assert [stage for _, stage in stages] == ["cpu", "cuda", "final"] and stages[-1][0] == "${VARIANT}"
    for image, _ in stages[:-1]:
        check_pinned(image)
    for variant in re.findall(r"VARIANT=(\w+)", text):
        assert variant in ("cpu", "cuda")
    users = [rest for name, rest in steps if name == "USER"]
    assert len(users) == 1 and users[0] not in ("root", "0"), "it does not run as root"
    assert steps.index(("USER", users[0])) < next(at for at, (name, _) in enumerate(steps) if name == "ENTRYPOINT")
    ignored = (CONTAINERS / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    for sources in (rest.split()[:-1] for name, rest in steps if name == "COPY"):
        for source in sources:
            assert (ROOT / source).exists() and f"!{source}" in ignored, source
    for script in (rest for name, rest in steps if name == "RUN"):
        check_shell(script)
    check_extras(text)
    assert json.loads(next(rest for name, rest in steps if name == "ENTRYPOINT")) == ["sempre"]


def test_the_definition_names_what_is_there():
    text = DEFINITION.read_text(encoding="utf-8")
    parts = sections(text)
    given = dict(line.split("=", 1) for line in parts["arguments"])
    assert set(re.findall(r"{{ (\w+) }}", text)) == set(given)
    for image in (given["base"], *re.findall(r"--build-arg base=(\S+)", text)):
        check_pinned(image)
    dockers = {
        rest.split(" AS ")[0] for name, rest in instructions(DOCKERFILE.read_text(encoding="utf-8")) if name == "FROM"
    }
    assert {given["base"], *re.findall(r"--build-arg base=(\S+)", text)} == dockers - {"${VARIANT}"}
    for source, target in (line.split() for line in parts["files"]):
        assert (ROOT / source).exists() and target == f"/opt/source/{source}"
    for name in ("post", "environment", "runscript", "test"):
        check_shell(re.sub(r"{{ (\w+) }}", lambda word: given[word[1]], "\n".join(parts[name])))
    check_extras(text)


def test_all_that_setup_py_reads_is_copied_into_the_images():
    read = set(re.findall(r'HERE / "([\w.]+)', (ROOT / "setup.py").read_text(encoding="utf-8"))) | {"pyproject.toml"}
    for text in (DOCKERFILE.read_text(encoding="utf-8"), DEFINITION.read_text(encoding="utf-8")):
        assert all(name in text for name in read)


def test_commands_that_the_recipes_name_are_commands_of_sempre():
    """Each `sempre …` in the comments and scripts is parsed by the program itself."""
    from sempre.deploy.command import _parser

    for file in (DOCKERFILE, DEFINITION):
        text = file.read_text(encoding="utf-8")
        for arguments in re.findall(r"\bsempre(?:-cuda)?(?::cuda|\.sif)? (segment .+)", text):
            options = _parser().parse_args(arguments.split())
            assert options.out.name == "results"


def test_the_conda_environment_asks_for_what_setup_py_does():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    base, _ = requirements()
    split = [re.fullmatch(r"([\w.-]+)(.*)", one) for one in base]
    wanted = {CONDA_NAMES.get(one[1], one[1]) + one[2] for one in split if one}
    python = re.search(r'python_requires="(.+)"', (ROOT / "setup.py").read_text(encoding="utf-8"))
    assert python
    listed = [one for one in environment["dependencies"] if isinstance(one, str)]
    assert set(listed) == wanted | {f"python{python[1]}", "pip"}
    assert environment["dependencies"][-1] == {"pip": ["--no-deps --editable ."]}
    assert environment["name"] == "sempre" and environment["channels"][0] == "conda-forge"
