"""Writes the generated pages: `docs/measurements.md`, and the parts of README.md between marks such as `<!-- measured -->`.

    python -m experiments.pages [--check]

Pages are made from the result files and the metadata of the shipped weights, with the templates in `experiments/templates`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from diffnag.io.files import written_whole
from experiments.shared import measurements, readme
from experiments.shared.common import parser
from experiments.shared.results import ROOT

README, MEASUREMENTS = ROOT / "README.md", ROOT / "docs" / "measurements.md"


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a page differs from what would be written")
    check = options.parse_args().check
    changed = [path for path, text in pages().items() if path.read_text() != text]
    for path in changed:
        print(f"{path.relative_to(ROOT)} {'is not up to date' if check else 'written'}")
        if not check:
            with written_whole(path) as temporary:
                temporary.write_text(pages()[path])
    sys.exit(1 if check and changed else 0)


def pages() -> dict[Path, str]:
    """Path -> text of every page."""
    parts = {"measured": readme.measured(), "shipped": readme.shipped()}
    return {README: filled(README.read_text(), parts), MEASUREMENTS: measurements.document()}


def filled(text: str, parts: Mapping[str, str]) -> str:
    """The text with new parts between `<!-- name -->` and `<!-- /name -->`; raises ValueError if a pair of marks is missing."""
    for name, part in parts.items():
        before, mark, rest = text.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"<!-- /{name} -->")
        if not (mark and end):
            raise ValueError(f"the page has no marks <!-- {name} --> and <!-- /{name} -->")
        text = before + mark + part + end + after
    return text


if __name__ == "__main__":
    main()
