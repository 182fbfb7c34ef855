"""The arena of generators: every family that has a network for a space, measured in the same way.

    python -m experiments.generator_arena [--spaces nasbench201 ...] [--families sde ...] [--parts samples ...] [--networks FOLDER] [--anew]

A row is a family in a space, and has these parts:
  samples      raw validity, uniqueness, novelty, Wasserstein distances of edges and depth from the whole space, by default and with few
               steps, and their floor: random architectures of the held-out half
  likelihood   gaps, mean negative log-likelihood minus ln N in nats, of a network trained on all architectures, and of the shipped one
               on the half that it was trained on and on the held-out half; each exact or a bound
  collisions   N P(two samples equal) - 1: 0 for uniform draws, for families with likelihood or without
  steering     mean z of samples that a table steers, beside the exact tilted mean, at S = 1, 2, 4 (nasbench201)
  search       labels to the optimum of searches whose candidates the family makes
Networks for the gap of all architectures are trained by the shipped recipe into the folder --networks, and used again; without it the
gap of all is left out. Parts that the result file has are kept while the shipped network is the same; `--anew` measures them again.
Architectures a second are noisy unless the machine is idle.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from diffnag.command import arguments
from diffnag.command.running import run_command
from diffnag.errors import UserError
from experiments.shared.common import begin, one_thread, parser
from experiments.shared.generator_figures import Contestant
from experiments.shared.measured_space import MeasuredSpace
from experiments.shared.pool import known_names
from experiments.shared.results import read_result, record, write_result

SPACES = ("nasbench201", "nasbench101")
PARTS = ("samples", "likelihood", "collisions", "steering", "search")
RESULT = "generator_arena"


def main() -> None:
    from diffnag.plugins import names

    options = parser(__doc__)
    options.add_argument("--spaces", nargs="+", metavar="SPACE", help=f"default: {' '.join(SPACES)}")
    options.add_argument("--families", nargs="+", metavar="FAMILY", help="default: all that have a network for the space")
    options.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    options.add_argument("--networks", type=Path, metavar="FOLDER", help="networks trained on all architectures")
    for name, default, what in (
        ("samples", 2048, "samples"), ("likelihoods", 4096, "architectures a gap"), ("collisions", 200_000, "samples for collisions"),
        ("steered", 2048, "steered samples"), ("seeds", 20, "searches"),
    ):  # fmt: skip
        options.add_argument(f"--{name}", type=arguments.positive_int, default=default, help=f"{what} (default: {default:,})")
    options.add_argument("--anew", action="store_true", help="measure parts again that the result file has")
    args = options.parse_args()
    begin()
    one_thread()
    families = known_names("generator", args.families, names("generator"))
    for space in known_names("space", args.spaces, SPACES):
        measured = MeasuredSpace(space)
        for family in families:
            try:
                contestant = Contestant(measured, family)
            except UserError as error:
                print(f"{space}, {family}: left out, {error}", flush=True)
                continue
            parts: dict[str, Callable[[], Any]] = {
                "samples": partial(contestant.samples, args.samples),
                "likelihood": partial(contestant.likelihood, args.likelihoods, args.networks),
                "collisions": partial(contestant.collisions, args.collisions),
                "steering": partial(contestant.steering, args.steered),
                "search": partial(contestant.search, args.seeds),
            }
            for part in args.parts:
                lacking = part == "likelihood" and args.networks is not None
                _measure(space, family, contestant.about(), part, parts[part], anew=args.anew, lacking=lacking)


def _measure(space: str, family: str, about: dict[str, Any], part: str, measure: Callable[[], Any], *, anew: bool, lacking: bool) -> None:
    """Measure one part of a row, unless the result file has it for the same network, and store it.

    With `lacking` a part that lacks the gap of all is measured again.
    """
    found = _row(space, family, about).get(part)
    if not anew and found is not None and not (lacking and found["all"] is None):
        return
    if (found := measure()) is None:
        return
    print(f"{space}, {family}, {part}: {found}", flush=True)
    row = {**_row(space, family, about), part: record(found)}  # read again: other processes may have measured meanwhile
    others = [other for other in read_result(RESULT).get("rows", []) if (other["space"], other["family"]) != (space, family)]
    write_result(RESULT, {"rows": sorted([*others, row], key=lambda each: (SPACES.index(each["space"]), each["family"]))})


def _row(space: str, family: str, about: dict[str, Any]) -> dict[str, Any]:
    """The stored row of a family; a new one if there is none, or its network was another one."""
    new = {"space": space, "family": family, **about}
    for row in read_result(RESULT).get("rows", []):
        if (row["space"], row["family"], row["checkpoint"]) == (space, family, about["checkpoint"]):
            return {**row, **new}
    return new


if __name__ == "__main__":
    run_command(main)
