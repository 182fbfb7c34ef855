"""Results in parts, of which each has rows of one generator: measured where the result file lacks them, and written part by part."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, TypeVar

from experiments.shared.common import begin, parser
from experiments.shared.results import read_result, record, write_result

Row = dict[str, Any]


class Measured(Protocol):
    """What the parts measure."""

    generator: Any


Known = TypeVar("Known", bound=Measured)


def measure_parts(
    doc: str | None, known: Callable[[str], Known], parts: Mapping[str, Callable[[Known], Iterator[Row]]], *, result: str, space: str
) -> None:
    """Read the options of the script with the docstring `doc`, and measure parts of what `known` gives for a family's name."""
    options = parser(doc)
    options.add_argument("--parts", nargs="+", choices=tuple(parts), default=tuple(parts))
    options.add_argument("--family", default="pointers", help="the generator family (default: pointers)")
    options.add_argument("--anew", action="store_true", help="measure parts again that the result file has")
    args = options.parse_args()
    begin()
    measured = known(args.family)
    for part in args.parts:
        rows = read_result(result).get("rows", [])
        if not args.anew and any(row["part"] == part for row in rows):
            continue
        about = {"space": space, "checkpoint": measured.generator.provenance().get("checkpoint", "")}
        made = [record({"part": part, **row, **about}) for row in parts[part](measured)]
        write_result(result, {"rows": sorted([row for row in rows if row["part"] != part] + made, key=lambda row: list(parts).index(row["part"]))})
