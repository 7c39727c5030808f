"""What mkdocs does besides: pages made from the code, and links that leave docs/ for the repository."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "docs"))

import reference_pages  # noqa: E402  (beside this file, which is no package)

# [text](target) and [text](target#anchor); the target climbs out of docs/.
_OUTSIDE = re.compile(r"\]\(((?:\.\./)+[^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are generated from models, parsers and routes."""
    for name, write in reference_pages.PAGES.items():
        files.append(File.generated(config, f"reference/{name}.md", content=write()))
    return files


def on_page_markdown(markdown: str, page: Any, config: MkDocsConfig, files: Files) -> str:
    """Point links to files outside docs/ at the repository, after a look whether they exist."""

    def in_repository(match: re.Match[str]) -> str:
        here = (ROOT / "docs" / page.file.src_uri).parent
        target = (here / match[1]).resolve()
        if target.is_relative_to(ROOT / "docs"):
            return match[0]
        if not target.exists():
            raise PluginError(f"{page.file.src_uri} links to {match[1]}, which does not exist")
        kind = "tree" if target.is_dir() else "blob"
        path = target.relative_to(ROOT).as_posix()
        return f"]({config.repo_url}/{kind}/main/{path}{match[2] or ''})"

    return _OUTSIDE.sub(in_repository, markdown)
