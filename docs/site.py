"""MkDocs' hook for links that leave docs/: pages link to files of the repository as any Git host reads them.

The README is the site's first page. Whatever else a page links to outside docs/ is part of the site, below
`repository/`: Markdown as a page, all else as a file. Links to what is not there stay as they are, and fail a strict
build.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(?<=\]\()([^)\s#:]+)(?=[)#])")  # the path in [text](path) and [text](path#heading), no URL


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the README, and all that it and the pages link to, and what that links to in its turn."""
    waiting = ["README.md", *(f"docs/{file.src_uri}" for file in files.documentation_pages())]
    seen = set(waiting)
    while waiting:
        path = waiting.pop()
        if not path.startswith("docs/"):
            files.append(File.generated(config, in_site(path), abs_src_path=str(ROOT / path)))
        if path.endswith(".md"):
            text = (ROOT / path).read_text(encoding="utf-8")
            found = {linked for link in LINK.findall(text) if (linked := in_repository(path, link))}
            waiting += sorted(linked for linked in found - seen if not linked.startswith("docs/"))
            seen |= found
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """The page with its links to the repository's files turned into those of the site."""
    path = str(Path(page.file.abs_src_path).relative_to(ROOT).as_posix())
    folder = posixpath.dirname(page.file.src_uri)

    def moved(link: re.Match) -> str:
        linked = in_repository(path, link[0])
        return link[0] if linked is None else posixpath.relpath(in_site(linked), folder or ".")

    return LINK.sub(moved, markdown)


def in_repository(path: str, link: str) -> str | None:
    """The path from the repository's root of the file that the file at `path` links to; None if there is none."""
    linked = posixpath.normpath(posixpath.join(posixpath.dirname(path), link))
    return linked if (ROOT / linked).is_file() else None


def in_site(path: str) -> str:
    """Where a file of the repository stands among the site's sources."""
    if path == "README.md":
        return "index.md"
    return path.removeprefix("docs/") if path.startswith("docs/") else f"repository/{path}"
