"""Write docs/options.md, the options of every recipe, from the fields of their `Options`: python docs/options.py"""

import sys
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = "data", "pretrain", "finetune", "evaluate", "tools"
BEFORE = """# Options

Every recipe takes its options as `key=value`, after the YAML files that it is to read. This page is written from the
recipes by `python docs/options.py`; `--help` of a recipe says the same.
"""


def page_of_options() -> str:
    """The page: a heading for each folder of recipes, and for each recipe a table of its options."""
    from sempre.config import options_table

    lines = [BEFORE]
    for folder in FOLDERS:
        lines += [f"## {folder}/", ""]
        for script in sorted((ROOT / folder).glob("*.py")):
            recipe = import_module(f"{folder}.{script.stem}")
            if not hasattr(recipe, "Options"):
                continue
            lines += [f"### {folder}/{script.name}", "", "| option | default | values | what it is |"]
            lines.append("| --- | --- | --- | --- |")
            for name, words, values, default in options_table(recipe.Options):
                shown = default if str(ROOT) not in default else default.replace(f"{ROOT}/", "")
                cells = (f"`{name}`", f"`{shown}`" if shown else "required", values, words)
                lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
            lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    (ROOT / "docs/options.md").write_text(page_of_options(), encoding="utf-8")
