"""Draw the rooms of sempre/ and what each imports, from the imports themselves, into docs/architecture.md.

    python docs/rooms.py

The picture stands between two markers in the page, as a Mermaid graph, which GitHub draws. An arrow leads from a room
to one that it imports; one that follows from others is left out (a transitive reduction). A test compares the page with
what this draws.
"""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/architecture.md"
BEGIN, END = "<!-- drawn by docs/rooms.py -->", "<!-- until here -->"


def imports_of_rooms() -> dict[str, set[str]]:
    """Of each room of sempre/, a folder or a single file, the rooms that its files import."""
    rooms: dict[str, set[str]] = {}
    for file in sorted((ROOT / "sempre").rglob("*.py")):
        room = file.relative_to(ROOT / "sempre").parts[0].removesuffix(".py")
        if room != "__init__":
            rooms.setdefault(room, set()).update(name.split(".")[1] for name in imported(file) if "." in name)
    return {room: (found & rooms.keys()) - {room} for room, found in rooms.items()}


def imported(file: Path) -> set[str]:
    """Full names of what a file imports from sempre, also inside functions."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.startswith("sempre.")}


def all_below(room: str, imports: dict[str, set[str]]) -> set[str]:
    """The rooms that a room imports, and those that these import in turn."""
    return imports[room].union(*(all_below(other, imports) for other in imports[room]))


def reduced(imports: dict[str, set[str]]) -> dict[str, set[str]]:
    """Without the imports that follow from others: of rooms a, b and c with a -> b -> c, a -> c is left out."""
    below = {room: all_below(room, imports) for room in imports}
    return {room: found.difference(*(below[other] for other in found)) for room, found in imports.items()}


def picture() -> str:
    """The lines between the markers, markers included."""
    imports = reduced(imports_of_rooms())
    arrows = [f"    {room} --> {other}" for room in sorted(imports) for other in sorted(imports[room])]
    return "\n".join([BEGIN, "```mermaid", "graph LR", *arrows, "```", END])


def with_picture(page: str) -> str:
    """The page with the picture as it is now; ValueError where a marker is missing."""
    begin, end = page.index(BEGIN), page.index(END) + len(END)
    return page[:begin] + picture() + page[end:]


if __name__ == "__main__":
    PAGE.write_text(with_picture(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
