"""Hooks of the documentation: result files join the site, and the reference lists every public name."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

RESULTS = Path("experiments") / "results"


def on_files(files: Any, *, config: Any) -> Any:
    """Add the result files that pages link to; in the site they lie in results/."""
    from mkdocs.structure.files import File

    root = Path(config.config_file_path).parent
    for path in sorted((root / RESULTS).iterdir()):
        if path.is_file():
            files.append(File.generated(config, f"results/{path.name}", abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    """Point links to the results at their place in the site, and fill the list of public names."""
    if page.file.src_uri.startswith("results/"):
        return re.sub(r"\]\((?!https?:)([\w.-]+)\)", r"](\1)", markdown)
    markdown = markdown.replace("](../experiments/results/", "](results/").replace("](../CHANGELOG.md)", "](index.md)")
    if page.file.src_uri == "reference/public.md":
        public = importlib.import_module("diffnag")
        names = sorted((name, home) for home, found in public._HOMES.items() for name in found)
        markdown += "\n" + "\n\n".join(f"::: diffnag.{home}.{name}" for name, home in names) + "\n"
    return markdown
