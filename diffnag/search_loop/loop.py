"""The search: one loop and one account of labels for every method."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from diffnag.errors import DataNotFound, UserError, unknown
from diffnag.plugins import load_space, make_oracle, names
from diffnag.search_loop.acquisition import ACQUISITIONS
from diffnag.search_loop.domain import Domain
from diffnag.search_loop.methods import BASELINES, METHODS, Diffnag, Evolution, LocalSearch, Method, Random
from diffnag.search_loop.study import Planned, Study
from diffnag.search_loop.trial import Trial, best_of

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.generation import Generator
    from diffnag.predicting import CheckedPredictor
    from diffnag.protocols import Oracle, SearchSpace

Note = Callable[[str], object]

REWARDS = ("val", "test")
CANDIDATES = 256
"""Architectures generated a round."""


@dataclass(frozen=True)
class SearchOptions:
    """What is searched for, and how.

    `predictor`, `acquisition`, `candidates`, `scale` and `checkpoint` belong to method `diffnag` and are refused with
    a baseline. `reward` is the split whose accuracy is maximised: `val` is protocol V, `test` protocol T.
    """

    dataset: str
    predictor: str | None = None
    space: str = "nasbench201"
    oracle: str = "auto"
    reward: str = "val"
    budget: int = 30
    batch: int = 5
    method: str = "diffnag"
    acquisition: str | None = None
    candidates: int | None = None
    scale: float | None = None
    checkpoint: Path | None = None
    max_params: int | None = None
    max_flops: int | None = None
    seed: int = 0
    device: str = "auto"

    def resolved(self) -> SearchOptions:
        """With the defaults of `diffnag` filled in; raises `UserError` for what does not fit together."""
        for kind, name, known in (("method", self.method, METHODS), ("reward", self.reward, REWARDS)):
            if name not in known:
                raise unknown(kind, name, known)
        counts = {"budget": self.budget, "batch": self.batch, "candidates": self.candidates}
        counts |= {"max-params": self.max_params, "max-flops": self.max_flops}
        for key, value in counts.items():
            if value is not None and value < 1:
                raise UserError(f"{key} is {value}; at least 1 is accepted")
        own = {key: getattr(self, key) for key in ("predictor", "acquisition", "candidates", "scale", "checkpoint")}
        if self.method in BASELINES:
            if given := [f"--{key}" for key, value in own.items() if value is not None]:
                raise UserError(f"method {self.method!r} makes no use of {', '.join(given)}; leave it out, or use --method diffnag")
            return self
        if self.predictor is None:
            raise UserError(f"method 'diffnag' needs --predictor; there are: {', '.join(names('predictor'))}, or a dotted path")
        from diffnag.generation import DEFAULT_SCALE

        acquisition = self.acquisition or "ei"
        scale = DEFAULT_SCALE if self.scale is None else self.scale
        if acquisition not in ACQUISITIONS:
            raise unknown("acquisition", acquisition, ACQUISITIONS)
        return replace(self, acquisition=acquisition, candidates=self.candidates or CANDIDATES, scale=scale)


@dataclass(frozen=True)
class Best:
    """The architecture of the largest observed reward; `test` is its test accuracy, None where there is none."""

    arch: str
    predicted: float | None
    value: float
    test: float | None


@dataclass(frozen=True)
class SearchResult:
    """What a search found and what it has used; accuracies in %."""

    space: str
    dataset: str
    oracle: Mapping[str, Any]
    """Its `kind` and what else `provenance` tells."""
    reward: str
    method: str
    predictor: str
    best: Best | None
    """None where every evaluation failed."""
    incumbent_curve: tuple[float | None, ...]
    """The best value after each label."""
    labels_target: int
    """Oracle queries, failures and the first round included."""
    labels_source: Mapping[str, int]
    guidance: str
    wall_s: float
    """Seconds in the loop, over all runs of the search."""
    nfe: int
    predictor_nfe: int
    seed: int
    budget: int
    trials: tuple[Trial, ...]

    def to_json(self) -> dict[str, Any]:
        """What `result.json` holds: all but the trials."""
        return {key: value for key, value in asdict(replace(self, trials=())).items() if key != "trials"}


class Search:
    """A search made ready: everything is loaded and checked, nothing evaluated. Use it in a `with` statement.

    `storage` (see `Study.open`) holds the study called `name`; one that is there goes on. Objects given as `oracle`
    (set up), `generator` or `predictor` (fresh) are used in place of those that `options` names, so that many
    searches can share what is slow to load. Raises `UserError` for whatever is wrong with the input.
    """

    def __init__(
        self,
        options: SearchOptions,
        *,
        storage: str | None = None,
        name: str = "search",
        oracle: Oracle | None = None,
        generator: Generator | None = None,
        predictor: CheckedPredictor | None = None,
    ) -> None:
        self.options = options = options.resolved()
        self.space = load_space(options.space)
        self.oracle = oracle or find_oracle(options.oracle, self.space)
        available = self.oracle.available
        if options.dataset not in available:
            raise unknown("dataset", options.dataset, available)
        if options.reward not in available[options.dataset]:
            raise unknown("split", options.reward, available[options.dataset])
        self.domain = Domain(self.space, options.dataset, max_params=options.max_params, max_flops=options.max_flops)
        self.labels_source: Mapping[str, int] = {}
        self.method = self._make_method(generator, predictor)
        self.study = Study.open(storage=storage, name=name, space=self.space, options=self._identity())

    @property
    def oracle_name(self) -> str:
        """What was asked for, or what `auto` has taken."""
        return self.oracle.kind if self.options.oracle == "auto" else self.options.oracle

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.study.close()

    def run(self, *, on_trial: Callable[[Trial], object] = lambda _: None, on_note: Note = lambda _: None) -> SearchResult:
        """Search until the budget is spent or nothing is left to evaluate.

        `on_trial` is called after each label, `on_note` with what a user should know of a round. Raises
        `PredictorError` where the predictor breaks its contract; what is evaluated by then is in the storage.
        """
        options, study = self.options, self.study
        while True:
            for planned in study.planned:
                on_trial(self._evaluate(planned))
            history = study.history
            if len(history) >= options.budget:
                break
            batch = self.method.propose(history, min(options.batch, options.budget - len(history)))
            for note in batch.notes:
                on_note(note)
            if not batch.proposals:
                on_note(f"nothing is left to evaluate after {len(history)} of {options.budget} labels")
                break
            study.plan(batch)
        return self._result(on_note)

    def _result(self, on_note: Note) -> SearchResult:
        """What the trials amount to; asks for the test value of the best by validation, which is no label."""
        options, spent, history = self.options, self.study.spent, self.study.history
        curve = [best_of(history[: i + 1]) for i in range(len(history))]
        return SearchResult(
            space=options.space, dataset=options.dataset, oracle={"kind": self.oracle.kind, **self.oracle.provenance()},
            reward=options.reward, method=options.method, predictor=options.predictor or "none", best=self._best(history, on_note),
            incumbent_curve=tuple(trial.value if trial else None for trial in curve), labels_target=len(history),
            labels_source=self.labels_source, guidance=spent.guidance, wall_s=spent.wall_s, nfe=spent.nfe,
            predictor_nfe=spent.predictor_nfe, seed=options.seed, budget=options.budget, trials=history,
        )  # fmt: skip

    def _evaluate(self, planned: Planned) -> Trial:
        """Pay for one label. An evaluation that raises or gives no finite number is a failed one, not the end."""
        started = self.study.start(planned)
        begin = time.perf_counter()
        value, error = self._ask(planned.proposal.arch, self.options.reward)
        return self.study.tell(started, value=value, error=error, cost_s=time.perf_counter() - begin)

    def _ask(self, arch: Arch, split: str) -> tuple[float | None, str | None]:
        """The oracle's finite answer, or the error in its place."""
        try:
            value = float(self.oracle.query(arch, dataset=self.options.dataset, split=split))
        except UserError:
            raise
        except Exception as failure:
            return None, f"{type(failure).__name__}: {failure}"
        return (value, None) if math.isfinite(value) else (None, f"the oracle returned {value}")

    def _best(self, history: tuple[Trial, ...], on_note: Note) -> Best | None:
        trial = best_of(history)
        if trial is None or trial.value is None:
            return None
        test: float | None = None
        if self.options.reward == "test":
            test = trial.value
        elif "test" in self.oracle.available[self.options.dataset]:
            test, error = self._ask(trial.arch, "test")
            if error is not None:
                on_note(f"the test evaluation of the best failed: {error}")
        return Best(arch=self.space.to_str(trial.arch), predicted=trial.predicted_mean, value=trial.value, test=test)

    def _make_method(self, generator: Generator | None, predictor: CheckedPredictor | None) -> Method:
        options = self.options
        if options.method == "random":
            return Random(self.domain, options.seed)
        if options.method == "evolution":
            return Evolution(self.domain, options.seed)
        if options.method == "local-search":
            return LocalSearch(self.domain, options.seed)
        from diffnag.predicting import load_predictor

        assert options.predictor and options.acquisition and options.candidates and options.scale is not None  # by `resolved`
        predictor = predictor or load_predictor(options.predictor, space=self.space, dataset=options.dataset, seed=options.seed)
        self.labels_source = predictor.labels_source
        return Diffnag(
            self.domain, options.seed, generator or self._load_generator(), predictor,
            acquisition=options.acquisition, candidates=options.candidates, scale=options.scale,
        )  # fmt: skip

    def _load_generator(self) -> Generator:
        from diffnag.cli import resolve_device
        from diffnag.denoiser import load_denoiser
        from diffnag.generation import Generator

        device = resolve_device(self.options.device)
        return Generator(self.space, load_denoiser(self.space, self.options.checkpoint, device=device))

    def _identity(self) -> dict[str, Any]:
        """The options in which a study that goes on must agree with the one that was begun."""
        identity = {key: value for key, value in asdict(self.options).items() if key not in ("budget", "device", "oracle", "checkpoint")}
        identity["oracle"] = self.oracle_name
        identity |= {f"oracle {key}": value for key, value in self.oracle.provenance().items()}
        if self.options.method == "diffnag":
            identity["checkpoint"] = self._checkpoint_checksum()
        return identity

    def _checkpoint_checksum(self) -> str | None:
        """Of the score network; None where a generator was handed in with none on file."""
        from diffnag.checkpoint import checksum
        from diffnag.denoiser import shipped_denoiser

        path = self.options.checkpoint or shipped_denoiser(self.space.name)
        return checksum(path) if path.is_file() else None


def run_search(
    options: SearchOptions,
    *,
    storage: str | None = None,
    name: str = "search",
    oracle: Oracle | None = None,
    generator: Generator | None = None,
    predictor: CheckedPredictor | None = None,
) -> SearchResult:
    """Search without a word, by default in memory only; see `Search` for the arguments and the errors."""
    with Search(options, storage=storage, name=name, oracle=oracle, generator=generator, predictor=predictor) as search:
        return search.run()


def find_oracle(name: str, space: SearchSpace) -> Oracle:
    """The oracle called `name`, set up for `space`; `auto` is the table where it is here, else the surrogate."""
    oracle = make_oracle("table" if name == "auto" else name)
    try:
        oracle.setup(space=space)
    except DataNotFound:
        if name != "auto":
            raise
        oracle = make_oracle("surrogate")
        oracle.setup(space=space)
    return oracle
