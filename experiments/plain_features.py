"""Measures what the group `plain` of `PathFeatures` (operator at each node, wiring) changes for the Gaussian process `gp`.

    python -m experiments.plain_features [--seeds 20] [--searches 20]

Two measurements, each without and with the group:

- `tables`: the process learns from labels that are drawn uniformly from a benchmark's table. The figure is Kendall's tau over the
  other architectures among the best 30 %, after 25, 100 and 200 labels.
- `chain`: a search in a space that the package does not know and whose operator names mislead. Layers are called `identity` that are
  strided 1x1 convolutions wherever the map is halved. By its name the operator counts as one that changes nothing, so that different
  architectures have equal features. Two more rows show the same searches where the space declares the roles of its operators. The
  figures are the searches that find the best architecture, and the labels that they need.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from diffnag.arch import Arch
from diffnag.protocols import Role
from diffnag.spaces.categorical import CategoricalSpace
from experiments.shared.arena_search import labels_of
from experiments.shared.common import begin, one_thread, parser
from experiments.shared.results import made_by, write_result
from experiments.shared.statistics import optimum_found, process_tau

if TYPE_CHECKING:
    from diffnag.predictors.gaussian_process import GaussianProcessPredictor

TABLES = (
    ("nasbench201", "cifar10", "val"), ("nasbench201", "ImageNet16-120", "val"), ("nasbench101", "cifar10", "test"),
    ("transnasbench101-micro", "class_object", "val"), ("transnasbench101-macro", "class_scene", "val"),
)  # fmt: skip
"""Space, dataset and split."""
LABELS = (25, 100, 200)
GOOD = 0.7
"""Quantile of the table above which architectures count; the ranks of bad ones do not help a search."""
MOST = 6000
"""Architectures that stand for a larger table."""
LAYERS = ("identity", "conv3x3", "conv5x5")
GAINS = (
    (0.0, 1.5, 1.0), (2.0, 0.5, 0.0), (0.0, 1.0, 2.2), (3.0, 1.0, 0.0), (0.0, 2.0, 1.0), (1.2, 0.8, 0.0), (0.0, 0.4, 0.9), (1.6, 0.0, 0.3),
)  # fmt: skip
"""Synthetic accuracy that each choice adds at each layer of the chain, in %."""
INITIAL, BUDGET = 10, 60


class Chain(CategoricalSpace):
    """Eight layers in a row, three choices each: 6,561 architectures, all of which compute something else."""

    name = "chain"
    nodes = 1 + len(GAINS)
    operators = ("input", *LAYERS)
    parameters: Mapping[str, tuple[str, ...]] = {f"layer {k}": LAYERS for k in range(1, nodes)}

    def from_parameters(self, parameters: Mapping[str, str]) -> Arch:
        """The architecture with these choices."""
        ops = (0, *(self.operators.index(choice) for choice in parameters.values()))
        return Arch(ops, tuple(pairwise(range(self.nodes))))

    def to_parameters(self, arch: Arch) -> dict[str, str]:
        """The choices of an architecture."""
        return dict(zip(self.parameters, (self.operators[op] for op in arch.ops[1:]), strict=True))


class DeclaredChain(Chain):
    """The same space, which declares that `identity` changes what it is given."""

    roles: Mapping[str, Set[Role]] = {
        "input": {"input"}, "identity": {"layer", "shrinks"}, "conv3x3": {"layer", "spatial"}, "conv5x5": {"layer", "spatial"},
    }  # fmt: skip


def accuracy(arch: Arch) -> float:
    """Synthetic accuracy of an architecture of `Chain` in %."""
    return 75.0 + sum(gains[op - 1] for gains, op in zip(GAINS, arch.ops[1:], strict=True))


CHAINS = ((Chain(), False), (Chain(), True), (DeclaredChain(), False), (DeclaredChain(), True))
"""Space, and whether the process has the group."""


def main() -> None:
    """Measure both and write `results/plain_features.json`."""
    options = parser(__doc__)
    options.add_argument("--seeds", type=int, default=20, help="draws of labels from each table")
    options.add_argument("--searches", type=int, default=20, help="searches in the chain")
    args = options.parse_args()
    begin()
    one_thread()
    tables = [row for benchmark in TABLES for row in _table_rows(*benchmark, seeds=args.seeds)]
    chain = [_chain_row(space, plain=plain, searches=args.searches) for space, plain in CHAINS]
    about = {"made_by": made_by(), "seeds": args.seeds, "searches": args.searches, "good": GOOD, "budget": BUDGET}
    write_result("plain_features", {**about, "tables": tables, "chain": chain})


def _table_rows(space_name: str, dataset: str, split: str, *, seeds: int) -> list[dict[str, Any]]:
    """One row without and one with the group."""
    from diffnag import load_space
    from diffnag.io.tables import load_table
    from diffnag.predictors.path_features import PathFeatures

    space = load_space(space_name)
    table = load_table(space)
    y = labels_of(table, dataset, split)
    chosen = np.random.default_rng(0).permutation(len(y))
    chosen = chosen[np.isfinite(y[chosen])][:MOST]
    groups, y = PathFeatures(space, plain=True)([space.from_str(table.archs[k]) for k in chosen]), y[chosen]
    rows = []
    for plain, features in ((False, groups[:-1]), (True, groups)):
        taus = {str(m): [process_tau(features, y, labels=m, seed=seed, good=GOOD, plain=plain) for seed in range(seeds)] for m in LABELS}
        tau = {m: float(np.mean(values)) for m, values in taus.items()}
        rows.append({"space": space_name, "dataset": dataset, "split": split, "plain": plain, "tau": tau, "taus": taus})
        print(space_name, dataset, "plain" if plain else "without", tau, flush=True)
    return rows


def _chain_row(space: Chain, *, plain: bool, searches: int) -> dict[str, Any]:
    """Best accuracy of each search at its end, share of searches that find the best, and labels they need (median)."""
    from diffnag.predictors.gaussian_process import GaussianProcessPredictor

    class Process(GaussianProcessPredictor):
        pass

    Process.plain = plain
    curves = np.stack([_search(space, Process(), seed) for seed in range(searches)])
    optimum = max(map(accuracy, space.enumerate() or ()))
    declared = isinstance(space, DeclaredChain)
    row = {"declared_roles": declared, "plain": plain, "optimum": optimum, "best": curves[:, -1].tolist(), **optimum_found(curves, optimum)}
    print(row, flush=True)
    return row


def _search(space: Chain, predictor: GaussianProcessPredictor, seed: int) -> np.ndarray:
    """Best accuracy after each label `(BUDGET,)`: random labels first, then the largest expected improvement in the whole space."""
    from diffnag.datasets.tasks import Task
    from diffnag.search_loop.acquisition import rank

    rng = np.random.default_rng(seed)
    archs = list(space.enumerate() or ())
    y = np.array([accuracy(arch) for arch in archs])
    predictor.setup(space=space, task=Task("chain", own=False), seed=seed)
    order = rng.permutation(len(archs))
    paid, left = order[:INITIAL].tolist(), order[INITIAL:]
    while len(paid) < BUDGET and y[paid].max() < y.max():
        predictor.fit([archs[k] for k in paid], y[paid])
        mean, std = predictor.predict([archs[k] for k in left])
        first = rank("ei", mean, std, best=float(y[paid].max()), rng=rng)[0]
        paid.append(int(left[first]))
        left = np.delete(left, first)
    values = np.pad(y[paid], (0, BUDGET - len(paid)), mode="edge")
    return np.maximum.accumulate(values)


if __name__ == "__main__":
    main()
