"""Scores predictions of latency on devices that were never seen, from few measured cells of NAS-Bench-201.

    python -m experiments.device_transfer

Families of devices are left out whole: all graphics processors with all batch sizes, and so on. A method learns from the other devices,
cells of a device that is left out are measured (looked up), and all 15,625 are predicted. Figures are Spearman's rho with the table:
the mean over the draws of cells for each device, then the mean over the 21 devices and the worst of them. A draw is random cells, or
with `by design` those that are chosen from 1,000 random ones, anew in each draw. `error` is the median relative error, and `covered`
the share of cells within the predicted interval of 90 %.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from diffnag.devices.features import Described, Features
from experiments.shared.common import begin, parser
from experiments.shared.results import record, write_result

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.devices.prior import Prior
    from diffnag.protocols import SearchSpace, Size

FAMILIES: Mapping[str, tuple[str, ...]] = {
    "graphics processors": (
        "1080ti_1", "1080ti_32", "1080ti_256", "2080ti_1", "2080ti_32", "2080ti_256", "titanx_1", "titanx_32", "titanx_256",
        "titanxp_1", "titanxp_32", "titanxp_256", "titan_rtx_1", "titan_rtx_32",
    ),
    "gold": ("gold_6240",), "silver": ("silver_4114", "silver_4210r"), "pixel3": ("pixel3",), "samsung": ("samsung_a50", "samsung_s7"),
    "essential": ("essential_ph_1",),
}  # fmt: skip
SAMPLES, DRAWS, COMPONENTS = 10, 20, 5
OTHER_SAMPLES = (3, 5, 20, 50)
"""Numbers of measured cells that the package's method is scored with besides."""
NINETY = NormalDist().inv_cdf(0.95)


class Predicted(NamedTuple):
    """Predictions of all cells `(m,)`: in ms with standard deviations, or, without them, in any unit."""

    mean: np.ndarray
    std: np.ndarray | None = None


Learned = Callable[[np.ndarray, np.ndarray], Predicted]
"""What has learned from the other devices: places of the measured cells and their ms -> predictions."""
Method = Callable[["Cells", tuple[str, ...]], Learned]
"""All cells and the devices to learn from -> what has learned."""


class Known(Features):
    """Features of known architectures, computed once."""

    def __init__(self, space: SearchSpace, archs: Sequence[Arch], size: Callable[[Arch], Size] | None = None) -> None:
        super().__init__(space, size)
        self.all = {counting: super(Known, self).__call__(archs, counting) for counting in self.countings}
        self._rows = {arch: row for row, arch in enumerate(archs)}

    def __call__(self, archs: Sequence[Arch], counting: str) -> Described:
        """As `Features`, looked up."""
        rows = [self._rows[arch] for arch in archs]
        return Described(self.all[counting].columns[rows], self.all[counting].detail[rows])


class Cells:
    """All cells in the order of the table: their latencies, and what methods see of them."""

    def __init__(self) -> None:
        from diffnag.devices.tables import latencies
        from diffnag.io.property_tables import load_properties
        from diffnag.search_spaces.nasbench201.space import NASBench201

        space = NASBench201()
        table = load_properties(space, "latency")
        self.archs = [space.from_str(text) for text in table.archs]
        self.rows = {arch: row for row, arch in enumerate(self.archs)}
        self.ms = latencies(table)
        assert sorted(self.ms) == sorted(device for family in FAMILIES.values() for device in family)
        sizes = {arch: space.size(arch, num_classes=10, image_size=32) for arch in self.archs}
        self.flops, self.params = (np.array([getattr(size, name) for size in sizes.values()], dtype=float) for name in ("flops", "params"))
        self.features, self.with_costs = Known(space, self.archs), Known(space, self.archs, sizes.__getitem__)
        self.one_hot = self.features.all["all"].detail

    def components(self, devices: Sequence[str]) -> np.ndarray:
        """The first principal components of the devices' standardised logarithms, scaled by their weight: `(m, COMPONENTS)`."""
        logs = np.log(np.stack([self.ms[device] for device in devices], axis=1))
        left, singular, _ = np.linalg.svd((logs - logs.mean(0)) / logs.std(0), full_matrices=False)
        found: np.ndarray = (left * singular)[:, :COMPONENTS] / np.sqrt(len(devices))
        return found


def main() -> None:
    parser(__doc__).parse_args()
    begin()
    cells = Cells()
    rows = []
    for name, method, samples, designed in _plan():
        figures = score(cells, method, samples, designed=designed)
        rows.append(record({"method": name, "samples": samples, "designed": designed, "draws": DRAWS, **figures}))
        print({key: value for key, value in rows[-1].items() if key not in ("devices", "made_by")}, flush=True)
    write_result("device_transfer", {"families": {name: list(devices) for name, devices in FAMILIES.items()}, "rows": rows})


def _plan() -> Iterator[tuple[str, Method, int, bool]]:
    """Name, method, number of measured cells, and whether they are chosen by design."""
    yield "package", package, SAMPLES, False
    yield "package", package, SAMPLES, True
    for samples in OTHER_SAMPLES:
        yield "package", package, samples, False
    yield "package, a part for each node", with_nodes, SAMPLES, False
    yield "package, no other device", no_device, SAMPLES, False
    yield "components, smoothed", smoothed_components, SAMPLES, False
    yield "components", components, SAMPLES, False
    yield "nearest device", nearest, SAMPLES, False
    yield "ridge", ridge, SAMPLES, False
    yield "flops", flops, 0, False
    yield "params", params, 0, False


def score(cells: Cells, method: Method, samples: int, *, designed: bool) -> dict[str, Any]:
    """Figures of one method, with those of each device."""
    devices: dict[str, dict[str, float]] = {}
    for family in FAMILIES.values():
        sources = tuple(device for device in cells.ms if device not in family)
        learned = method(cells, sources)
        for device in family:
            found = []
            for draw in range(DRAWS):
                places = chosen(cells, sources, samples, draw) if designed else drawn(len(cells.archs), samples, draw)
                found.append(_figures(learned(places, cells.ms[device][places]), cells.ms[device]))
            devices[device] = {key: round(float(np.mean([row[key] for row in found])), 4) for key in found[0]}
    worst = min(devices, key=lambda device: devices[device]["spearman"])
    means = {key: round(float(np.mean([row[key] for row in devices.values()])), 4) for key in devices[worst]}
    return {**means, "worst": devices[worst]["spearman"], "worst_device": worst, "devices": devices}


def _figures(predicted: Predicted, ms: np.ndarray) -> dict[str, float]:
    from scipy.stats import rankdata

    ranks = np.corrcoef(rankdata(predicted.mean), rankdata(ms))[0, 1]
    found = {"spearman": float(ranks)}
    if predicted.std is not None:
        error = np.abs(predicted.mean - ms)
        found |= {"error": float(np.median(error / ms)), "covered": float((error <= NINETY * predicted.std).mean())}
    return found


def drawn(m: int, samples: int, draw: int) -> np.ndarray:
    """Places of random cells."""
    return np.random.default_rng(draw).choice(m, samples, replace=False)


@cache
def chosen(cells: Cells, sources: tuple[str, ...], samples: int, draw: int) -> np.ndarray:
    """Places of the cells that the package chooses."""
    from diffnag.devices.design import choose

    return np.array([cells.rows[arch] for arch in choose(cells.features, learned_from(cells, sources), samples, seed=draw)])


@cache
def learned_from(cells: Cells, sources: tuple[str, ...]) -> Prior:
    """The prior that these devices teach."""
    from diffnag.devices.prior import best_fit, learned_prior

    columns = {counting: described.columns for counting, described in cells.features.all.items()}
    return learned_prior([best_fit(columns, cells.ms[device]) for device in sources], cells.features.names)


def _few_shot(cells: Cells, features: Features, prior: Prior) -> Learned:
    from diffnag.devices.fewshot import FewShot

    model = FewShot(features, prior)

    def predict(places: np.ndarray, ms: np.ndarray) -> Predicted:
        model.fit([cells.archs[place] for place in places], ms)
        return Predicted(*model.predict(cells.archs))

    return predict


def package(cells: Cells, sources: tuple[str, ...]) -> Learned:
    """What the package does."""
    return _few_shot(cells, cells.features, learned_from(cells, sources))


def with_nodes(cells: Cells, sources: tuple[str, ...]) -> Learned:
    """The same, and what an operator takes may depend on its node."""
    return _few_shot(cells, cells.features, replace(learned_from(cells, sources), details=(0.0, 0.05, 0.15)))


def no_device(cells: Cells, sources: tuple[str, ...]) -> Learned:
    """What the package does in a space of which no device is known."""
    from diffnag.devices.prior import general_prior

    return _few_shot(cells, cells.with_costs, general_prior(cells.with_costs))


def components(cells: Cells, sources: tuple[str, ...]) -> Learned:
    """Bayesian regression of the logarithm on principal components of the other devices, looked up in the table."""
    return _regression(cells.components(sources))


def smoothed_components(cells: Cells, sources: tuple[str, ...]) -> Learned:
    """The same, with components as functions of the counts of operators, of second degree."""
    counts = cells.features.all["all"].columns
    i, j = np.triu_indices(counts.shape[1])
    products = counts[:, i] * counts[:, j]
    found = cells.components(sources)
    return _regression(products @ np.linalg.lstsq(products, found, rcond=None)[0])


def _regression(columns: np.ndarray) -> Learned:
    from sklearn.linear_model import BayesianRidge

    return lambda places, ms: Predicted(BayesianRidge().fit(columns[places], np.log(ms)).predict(columns))


def nearest(cells: Cells, sources: tuple[str, ...]) -> Learned:
    """The table of the device whose logarithms correlate best."""

    def predict(places: np.ndarray, ms: np.ndarray) -> Predicted:
        closeness = [np.corrcoef(np.log(cells.ms[source][places]), np.log(ms))[0, 1] for source in sources]
        return Predicted(cells.ms[sources[int(np.argmax(closeness))]])

    return predict


def ridge(cells: Cells, sources: tuple[str, ...]) -> Learned:
    """Ridge regression of the logarithm on which operator each node has; it knows no other device."""
    from sklearn.linear_model import Ridge

    return lambda places, ms: Predicted(Ridge(alpha=0.1).fit(cells.one_hot[places], np.log(ms)).predict(cells.one_hot))


def flops(cells: Cells, sources: tuple[str, ...]) -> Learned:
    """Multiply-adds, and nothing measured."""
    return lambda places, ms: Predicted(cells.flops)


def params(cells: Cells, sources: tuple[str, ...]) -> Learned:
    """Parameters, and nothing measured."""
    return lambda places, ms: Predicted(cells.params)


if __name__ == "__main__":
    main()
