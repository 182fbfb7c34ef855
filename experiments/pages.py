"""Writes the generated pages: `docs/measurements.md`, and the parts of pages between marks such as `<!-- measured -->`.

    python -m experiments.pages [--check]

Pages are made from the result files and the metadata of the shipped weights, with the templates in `experiments/templates`. A mark
`<!-- measured -->` or `<!-- shipped -->` may stand in README.md or in any page of `docs`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from diffnag.io.files import written_whole
from experiments.shared import measurements, overview
from experiments.shared.common import parser
from experiments.shared.results import ROOT

README, DOCS = ROOT / "README.md", ROOT / "docs"
MEASUREMENTS = DOCS / "measurements.md"
PARTS: Mapping[str, Callable[[str], str]] = {"measured": overview.measured, "shipped": overview.shipped}
"""Mark -> function from the path between page and repository, empty or `../`, to the text."""


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a page differs from what would be written")
    check = options.parse_args().check
    changed = {path: text for path, text in pages().items() if path.read_text() != text}
    for path, text in changed.items():
        print(f"{path.relative_to(ROOT)} {'is not up to date' if check else 'written'}")
        if not check:
            with written_whole(path) as temporary:
                temporary.write_text(text)
    sys.exit(1 if check and changed else 0)


def pages() -> dict[Path, str]:
    """Path -> text of every page that is generated or has a generated part."""
    texts = {path: filled(path.read_text(), root) for path, root in ((README, ""), *((path, "../") for path in sorted(DOCS.glob("*.md"))))}
    return {**texts, MEASUREMENTS: measurements.document()}


def filled(text: str, root: str, parts: Mapping[str, Callable[[str], str]] = PARTS) -> str:
    """The text with new parts between marks `<!-- name -->` and `<!-- /name -->`; raises ValueError for a mark without its end."""
    for name, part in parts.items():
        before, mark, rest = text.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"<!-- /{name} -->")
        if mark and not end:
            raise ValueError(f"the page has a mark <!-- {name} --> without <!-- /{name} -->")
        if mark:
            text = before + mark + part(root) + end + after
    return text


if __name__ == "__main__":
    main()
