"""The recipes as modules: `sempre.recipes.pretrain.fcmae` is pretrain/fcmae.py, and so on.

In a checkout the folders pretrain/, finetune/, evaluate/, data/, tools/, configs/ and slurm/ stand at its root, where
people read and copy them. A wheel holds them in this folder.
"""

import ast
from pathlib import Path
from textwrap import shorten

_HERE = Path(__file__).parent
FOLDER = _HERE if (_HERE / "pretrain").is_dir() else _HERE.parents[1]  # that holds pretrain/, configs/ and the others
if FOLDER != _HERE:
    __path__.append(str(FOLDER))

# By job: the words of a command, behind `sempre`, and the recipe that it runs. A folder stands for all recipes in it,
# each a word of its own.
JOBS = {
    "prepare data": {"prepare": "data/prepare", "render": "data/synthesize", "boxes": "data/boxes"},
    "pretrain": {"pretrain": "pretrain"},
    "fine-tune": {"finetune": "finetune"},
    "score and compare": {
        "score": "tools/score",
        "report": "tools/report",
        "evaluate": "evaluate",
        "study": "tools/study",
        "sweep": "tools/sweep",
    },
    "bring a model to the microscope": {"export": "tools/export_onnx", "refine": "tools/refine", "scan": "tools/scan"},
    "try the whole chain": {"demo": "tools/demo"},
}
COMMANDS = {word: recipe for words in JOBS.values() for word, recipe in words.items()}


def recipes_of(word: str) -> dict[str, str]:
    """The recipes of one of `COMMANDS`, by their words: {"score": "tools/score"}, {"pretrain fcmae": …, …}."""
    recipe = COMMANDS[word]
    if not (FOLDER / recipe).is_dir():
        return {word: recipe}
    return {f"{word} {path.stem}": f"{recipe}/{path.stem}" for path in sorted((FOLDER / recipe).glob("*.py"))}


def summary_of(recipe: str) -> str:
    """The first line of a recipe's docstring, which is read without importing the recipe."""
    text = (FOLDER / f"{recipe}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]


def table(job: dict[str, str]) -> list[str]:
    """One line a recipe of one of `JOBS`: its words, and what it does."""
    rows = [(words, summary_of(recipe)) for word in job for words, recipe in recipes_of(word).items()]
    return [f"  {words:<30} {shorten(summary, 87, placeholder=' …')}" for words, summary in rows]
