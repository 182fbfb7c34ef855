"""Compares sources of candidates for a search within a limit, at equal labels.

    python -m experiments.limited_sources [--places nasbench201/params/10 ...] [--sources sde ...] [--seeds 20] [--anew]

A place is a space, what is limited, and the share of the space, in %, that meets the limit. The searches are those of `python -m
diffnag.search --predictor gp`, protocol T; only the source of the candidates differs:
  sde                      the default: particles that keep to the limit
  conditional              the family `conditional`, asked for values within the limit
  conditional, not asked   the same family, which keeps to the limit as others do
  uniform                  uniform draws of the space
A search in nasbench201 ends at the best architecture within the limit; `labels_to_best` are its labels, None where it was not found.
Every search is saved in the user cache as soon as it ends, so that a stopped run continues. Other weights, or `--anew`, repeat the searches.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.shared.arena_search import GUIDED, Contender, generator, space_and_oracle
from experiments.shared.common import begin, one_thread, parser
from experiments.shared.draws import MUTATED, Draws
from experiments.shared.results import by_seeds, read_result, record, write_result

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.search_loop.trial import Trial

RESULT = "limited_sources"
NOT_ASKED = "conditional, not asked"
SOURCES: Mapping[str, Contender] = {
    "sde": Contender("diffnag", GUIDED),
    "conditional": Contender("diffnag", {**GUIDED, "generator": "conditional"}),
    NOT_ASKED: Contender("diffnag", {**GUIDED, "generator": "conditional"}),
    "uniform": Contender("diffnag", GUIDED, draws="uniform"),
}
PLACES = (
    "nasbench201/latency:pixel3/50", "nasbench201/latency:pixel3/20", "nasbench201/latency:pixel3/5", "nasbench201/params/10",
    "nasbench101/params/10", "nasbench101/params/1",
)  # fmt: skip
DATASET = {"nasbench201": "cifar100", "nasbench101": "cifar10"}
BUDGET = {"nasbench201": 60, "nasbench101": 100}
DRAWS = 10_000
"""Random architectures from which a limit is read, where a space is too large to measure all."""
AT = (10, 30, 60, 100)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--places", nargs="+", choices=PLACES, default=PLACES, metavar="PLACE", help=f"default: {' '.join(PLACES)}")
    options.add_argument("--sources", nargs="+", choices=SOURCES, default=list(SOURCES), metavar="SOURCE", help=f"of {'; '.join(SOURCES)}")
    options.add_argument("--seeds", type=int, default=20)
    options.add_argument("--anew", action="store_true", help="repeat the saved searches, for code that searches differently now")
    args = options.parse_args()
    begin()
    one_thread()
    for place in args.places:
        for source in args.sources:
            found: list[dict[str, Any]] = []
            for seed in range(args.seeds):
                found.append(_kept(place, source, seed, anew=args.anew))
                rows = read_result(RESULT).get("rows", [])  # again: other processes may have searched meanwhile
                rows = [row for row in rows if (row["place"], row["source"]) != (place, source)] + [_row(place, source, found)]
                rows.sort(key=lambda row: (PLACES.index(row["place"]), list(SOURCES).index(row["source"])))
                write_result(RESULT, {"rows": rows})


def _row(place: str, source: str, found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Row of one source in one place, from the searches of the seeds 0, 1, ..."""
    curves = np.array([item["curve"] for item in found])
    return {
        "place": place, "source": source, "dataset": DATASET[place.split("/")[0]], "limit": limit(place), "seeds": len(found),
        "mean_best_at": {str(at): round(float(curves[:, at - 1].mean()), 4) for at in AT if at <= curves.shape[1]},
        "best": curves[:, -1].round(4).tolist(), "labels_to_best": [item["hit"] for item in found],
        "seconds_a_search": round(float(np.mean([item["seconds"] for item in found])), 1),
        "made_by": by_seeds({seed: item["made_by"] for seed, item in enumerate(found)}),
    }  # fmt: skip


def _kept(place: str, source: str, seed: int, *, anew: bool) -> dict[str, Any]:
    """`search`, read from the cache if it is there."""
    from diffnag.io.files import cache_folder, write_json

    weights = (SOURCES[source].checkpoint(place.split("/")[0]) or "none")[:12]
    words = [*place.replace(":", "-").split("/"), *source.replace(",", "").split(), str(seed), weights]
    kept = cache_folder() / RESULT / f"{'-'.join(words)}.json"
    if kept.is_file() and not anew:
        return json.loads(kept.read_text())
    found = record(search(place, source, seed))
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_json(kept, found)
    print(place, source, seed, found["curve"][-1], found["hit"], f"{found['seconds']} s", flush=True)
    return found


class _Reached(Exception):
    """Ends a search that found the best architecture within the limit."""


def search(place: str, source: str, seed: int) -> dict[str, Any]:
    """Run one search: `curve`, the best value after each label, `hit`, the labels to the best, and `seconds` of processor time."""
    from diffnag.search_loop.loop import Search
    from diffnag.search_loop.options import SearchOptions

    name, contender = place.split("/")[0], SOURCES[source]
    space, oracle = space_and_oracle(name)
    best = _best(place)
    curve: list[float] = []
    hits: list[int] = []

    def note(trial: Trial) -> None:
        value = -math.inf if trial.value is None else trial.value
        curve.append(max([value, *curve[-1:]]))
        if best is not None and (value >= best[0] or space.canonical(trial.arch) == best[1]):
            hits.append(len(curve))
            raise _Reached

    options = SearchOptions(
        space=name, dataset=DATASET[name], oracle="table", reward="test", budget=BUDGET[name], seed=seed, limit=(limit(place),),
        method=contender.method, **contender.options,
    )  # fmt: skip
    draws = Draws(space, mutated=MUTATED[contender.draws]) if contender.draws else None
    made: Any = draws or generator(name, contender.family)
    begin = time.process_time()
    if source == NOT_ASKED:
        made = _NotAsked(made)
    with Search(options, oracle=oracle, generator=made) as running, suppress(_Reached):
        if draws:
            draws.search = running
        running.work(on_trial=note)
    curve += [curve[-1]] * (BUDGET[name] - len(curve))
    return {"curve": curve, "hit": hits[0] if hits else None, "seconds": round(time.process_time() - begin, 1)}


class _NotAsked:
    """A generator whose conditions the search does not know."""

    def __init__(self, generator: Any) -> None:
        self.space, self.steers, self.conditions = generator.space, generator.steers, ()
        self.sample, self.vary, self.provenance = generator.sample, generator.vary, generator.provenance


@cache
def limit(place: str) -> str:
    """The limit as the command line takes it: the least value that lets the share of the place through."""
    _, what, share = place.split("/")
    values = np.sort([value for value, _ in _values(place)])
    return f"{what}<={float(values[math.ceil(float(share) * len(values) / 100) - 1])!r}"


@cache
def _best(place: str) -> tuple[float, str] | None:
    """Value and canonical class of the best architecture within the limit; None where a space is too large to measure all."""
    name, within = place.split("/")[0], float(limit(place).partition("<=")[2])
    if name != "nasbench201":
        return None
    space, oracle = space_and_oracle(name)
    archs = [arch for value, arch in _values(place) if value <= within]
    best = max(archs, key=lambda arch: oracle.query(arch, dataset=DATASET[name], split="test"))
    return oracle.query(best, dataset=DATASET[name], split="test"), space.canonical(best)


@cache
def _values(place: str) -> list[tuple[float, Arch]]:
    """What is limited, of all architectures or of random ones, on the dataset of the search."""
    from diffnag.datasets.tasks import Task
    from diffnag.objectives.reading import load_objective
    from diffnag.spaces.draws import random_archs

    name, what, _ = place.split("/")
    space, _ = space_and_oracle(name)
    task = Task.of(DATASET[name], space)
    objective = load_objective(what, space=space, task=task, skeleton=None)
    archs = list(space.enumerate() or ()) if name == "nasbench201" else random_archs(space, DRAWS, seed=0)
    return [(objective.measure(arch, task=task), arch) for arch in archs]


if __name__ == "__main__":
    main()
