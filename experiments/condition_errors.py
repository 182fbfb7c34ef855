"""Measures how near conditional families come to the values that they are asked for, beside particles of the family `discrete`.

    python -m experiments.condition_errors [--spaces nasbench201 ...] [--families conditional ...] [--weights 1 ...] [--plausible 0.3 ...]
        [--nearest 1 ...] [--anew]

What is asked for are the values of `ASKED` architectures of the half that the network was not trained on, of each condition alone and of
all together, by each of `WEIGHTS`. Errors are mean absolute ones over the valid ones of `SAMPLES` samples each, in standard deviations of
the condition over the training half; `within_5_percent` is the share of valid samples that miss no value by more. Particles follow
`p(A) exp(-S d(A))`, with d the mean absolute error in standard deviations, for the first `BY_PARTICLES` of what is asked for, where the
family `discrete` has a network. `unconditioned` has figures of `UNCONDITIONED` samples of which nothing is asked, `in_turn` those of as many
samples of which each is asked for all conditions of another random architecture: in these the law of the space should come back.
`plausible` is the option of that name, 0 for the law itself and for `conditional-sde`, which has none, `nearest` the draws for each sample,
of which the nearest is kept.

Rows that the result file has are kept; `--anew` measures the selected spaces again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from diffnag.errors import UserError
from experiments.shared.common import begin, one_thread, parser
from experiments.shared.results import read_result, record, write_result

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.generators.base import Steer
    from diffnag.protocols import Generator

SPACES = ("nasbench201", "nasbench101", "darts", "mobilenetv3", "transnasbench101-micro", "transnasbench101-macro")
ASKED, BY_PARTICLES, SAMPLES, UNCONDITIONED, SEED = 50, 10, 128, 2048, 0
RESULT, PARTICLES = "condition_errors", "particles"
FAMILIES = ("conditional", "conditional-sde")
WEIGHTS = ("0", "1", "2", PARTICLES)
PLAUSIBLE = (0.0, 0.3)
NEAREST = (1, 4, 8)
SHARPNESS = 30.0
"""S of the particles."""
Values = Callable[[Sequence["Arch"]], np.ndarray]


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--spaces", nargs="+", choices=SPACES, default=SPACES, help="default: all")
    options.add_argument("--families", nargs="+", choices=FAMILIES, default=FAMILIES, help="default: all that have a network for the space")
    options.add_argument("--weights", nargs="+", choices=WEIGHTS, default=WEIGHTS, help="of the guidance, or particles; default: all")
    options.add_argument("--plausible", nargs="+", type=float, choices=PLAUSIBLE, default=PLAUSIBLE, help="default: all")
    options.add_argument("--nearest", nargs="+", type=int, choices=NEAREST, default=NEAREST, help="default: all; above 1 with plausible only")
    options.add_argument("--anew", action="store_true", help="measure rows again that the result file has")
    args = options.parse_args()
    begin()
    one_thread()
    from diffnag.generators.network import shipped_network

    for space in args.spaces:
        for family in (family for family in args.families if shipped_network(space, family).is_file()):
            settings = [setting for setting in product(args.plausible, args.nearest) if possible(family, *setting)]
            unconditioned(space, family, anew=args.anew)
            in_turn(space, family, sorted({share for share, draws in settings if draws == 1}), anew=args.anew)
            measure(space, family, args.weights, settings, anew=args.anew)


def possible(family: str, plausible: float, nearest: int) -> bool:
    """Whether a family draws so, and it is measured: several draws as a user has them, with the options' defaults."""
    return plausible == 0.0 if family == "conditional-sde" else plausible > 0 or nearest == 1


def sampling_of(generator: Any, plausible: float, nearest: int = 1) -> Any:
    """The options of a draw of either family."""
    return generator.Sampling(nearest=nearest, **({"plausible": plausible} if hasattr(generator.Sampling, "plausible") else {}))


def unconditioned(name: str, family: str, *, anew: bool) -> None:
    """Measure samples of which nothing is asked, unless that was done."""
    from diffnag import load_generator
    from experiments.shared.measured_space import MeasuredSpace

    if (others := _others("unconditioned", key := {"space": name, "family": family}, anew=anew)) is None:
        return
    measured = MeasuredSpace(name)
    archs = load_generator(measured.space, family).sample(UNCONDITIONED, seed=SEED).archs
    row = record({**key, **measured.figures(archs, UNCONDITIONED)})
    print(row, flush=True)
    _store(unconditioned=[*others, row])


def in_turn(name: str, family: str, plausible: Sequence[float], *, anew: bool) -> None:
    """Measure samples that are asked, one after the other, for what random architectures have, unless that was done."""
    from diffnag import load_generator
    from diffnag.generators.base import Steer
    from diffnag.generators.trained import CHUNK
    from diffnag.spaces.draws import random_archs
    from experiments.shared.measured_space import MeasuredSpace

    measured, draws = MeasuredSpace(name), UNCONDITIONED // CHUNK
    for share in plausible:
        if (others := _others("in_turn", key := {"space": name, "family": family, "plausible": share}, anew=anew)) is None:
            continue
        generator: Any = load_generator(measured.space, family)
        archs = []
        for seed in range(draws):
            asked = generator.condition_of(random_archs(measured.space, CHUNK, seed=seed), generator.conditions)
            archs += generator.sample(CHUNK, seed=seed, steer=Steer(condition=asked), sampling=sampling_of(generator, share)).archs
        row = record({**key, "weight": Steer().weight, **measured.figures(archs, draws * CHUNK)})
        print(row, flush=True)
        _store(in_turn=[*others, row])


def _kept(part: str) -> list[dict[str, Any]]:
    return list(read_result(RESULT).get(part, []))


def _others(part: str, key: Mapping[str, Any], *, anew: bool) -> list[dict[str, Any]] | None:
    """The other rows of a part, None where one with the fields of `key` is there and is kept."""
    rows = _kept(part)
    others = [row for row in rows if any(row[field] != value for field, value in key.items())]
    return None if len(others) < len(rows) and not anew else others


def _store(**parts: list[dict[str, Any]]) -> None:
    """Write the result file with new rows of these parts, in the order of the spaces."""
    ordered = {part: sorted(rows, key=lambda row: SPACES.index(row["space"])) for part, rows in parts.items()}
    kept = {part: _kept(part) for part in ("rows", "unconditioned", "in_turn")}
    write_result(RESULT, {"samples": SAMPLES, **kept, **ordered})


def measure(name: str, family: str, weights: Sequence[str], settings: Sequence[tuple[float, int]], *, anew: bool) -> None:
    """Measure all rows of a family in a space that are missing, and write each as it is there."""
    from diffnag import load_generator, load_space
    from diffnag.generators.conditional.conditions import Measures
    from diffnag.generators.network import shipped_network
    from diffnag.spaces.split import CanonicalSplit

    if not shipped_network(name, "discrete").is_file() or family != "conditional":
        weights = [weight for weight in weights if weight != PARTICLES]
    space = load_space(name)
    generator: Any = load_generator(space, family)
    names, spread = generator.conditions, generator.network.spread.numpy()
    rng, split = np.random.default_rng(SEED), CanonicalSplit.named(generator.network.split)
    held_out: list[Arch] = []
    while len(held_out) < ASKED:
        if not split.trains(space.canonical(arch := space.random(rng))):
            held_out.append(arch)
    low, high = generator.network.quantiles[:, [0, -1]].T.numpy()
    measures = Measures(names, space)
    asked = measures(held_out).numpy().clip(low, high)  # what lies beyond the training half is refused

    for subset in [*[[k] for k in range(len(names))], list(range(len(names)))]:
        def values(archs: Sequence[Arch], subset: list[int] = subset) -> np.ndarray:
            return measures(archs).numpy()[:, subset]

        named = [names[k] for k in subset]
        for weight, (share, draws) in product(weights, settings):
            by_particles = weight == PARTICLES
            key = {
                "space": name, "family": "discrete" if by_particles else family, "conditions": named,
                "weight": weight if by_particles else float(weight), "plausible": share, "nearest": draws,
            }  # fmt: skip
            if (by_particles and share) or (others := _others("rows", key, anew=anew)) is None:
                continue
            if by_particles:
                source: Generator = load_generator(space, "discrete")
                wanted, steer, sampling = asked[:BY_PARTICLES, subset], _particles(space, values, spread[subset]), None
            else:
                source, wanted = generator, asked[:, subset]
                steer, sampling = conditioned(named, float(weight)), sampling_of(generator, share, draws)
            row = record({**key, "asked": len(wanted), **errors(source, wanted, values, spread[subset], steer, sampling)})
            print(row, flush=True)
            _store(rows=[*others, row])


def errors(
    generator: Generator, asked: np.ndarray, values: Values, spread: np.ndarray, steer: Callable[[np.ndarray], Steer], sampling: Any
) -> dict[str, Any]:
    """Mean absolute errors of samples for each row of values asked for `(m, c)`, validity, distinct share, rows refused, seconds for each row."""
    missed, valid, distinct, near, refused, begun = [], 0, 0, 0, 0, time.perf_counter()
    for wanted in asked:
        try:
            archs = generator.sample(SAMPLES, seed=SEED, steer=steer(wanted), sampling=sampling).archs
        except UserError:  # conditions far from all that training saw
            refused += 1
            continue
        valid, distinct = valid + len(archs), distinct + len(set(archs))
        if archs:
            apart = np.abs(values(archs) - wanted)
            missed.append((apart / spread).mean(0))
            near += int((apart <= 0.05 * np.abs(wanted)).all(1).sum())
    total = (len(asked) - refused) * SAMPLES
    return {
        "errors": np.mean(missed, axis=0).round(4).tolist(), "error": round(float(np.mean(missed)), 4), "validity": valid / total,
        "distinct": distinct / total, "refused": refused, "within_5_percent": round(near / valid, 4),
        "seconds": round((time.perf_counter() - begun) / len(asked), 2),
    }  # fmt: skip


def conditioned(names: Sequence[str], weight: float) -> Callable[[np.ndarray], Steer]:
    """Ask for the values of the conditions `names`."""
    from diffnag.generators.base import Steer

    return lambda wanted: Steer(condition=dict(zip(names, wanted.tolist(), strict=True)), weight=weight)


def _particles(space: Any, values: Values, spread: np.ndarray) -> Callable[[np.ndarray], Steer]:
    """Steer by a predictor of how near an architecture comes to what is wanted."""
    from diffnag.generators.base import Steer
    from diffnag.guidance.checked import CheckedPredictor
    from diffnag.guidance.tilt import Tilt

    class Nearness:
        """Minus the mean absolute error in standard deviations, exact."""

        def __init__(self, wanted: np.ndarray) -> None:
            self._wanted = wanted

        def fit(self, archs: Sequence[Arch], y: np.ndarray) -> None:
            raise NotImplementedError

        def predict(self, archs: Sequence[Arch]) -> tuple[np.ndarray, np.ndarray]:
            return -(np.abs(values(archs) - self._wanted) / spread).mean(1), np.zeros(len(archs))

    return lambda wanted: Steer(tilt=Tilt(CheckedPredictor("nearness", Nearness(wanted)), space, SHARPNESS))


if __name__ == "__main__":
    main()
