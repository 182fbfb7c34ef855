"""The search: one loop and one account of labels for every method."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from diffnag.errors import UserError, unknown
from diffnag.protocols import MultiFidelity
from diffnag.search_loop.domain import Domain
from diffnag.search_loop.methods.base import Method
from diffnag.search_loop.methods.baselines import Evolution, LocalSearch, Random
from diffnag.search_loop.methods.guided import Diffnag
from diffnag.search_loop.methods.model_based import bananas, gp_enumerate
from diffnag.search_loop.methods.tpe import TPE
from diffnag.search_loop.options import SEARCH_SHARE, SearchOptions
from diffnag.search_loop.oracle import find_oracle, is_own_images, oracle_on_images, refuse_image_options
from diffnag.search_loop.result import Best, SearchResult
from diffnag.search_loop.study.leases import PATIENCE
from diffnag.search_loop.study.study import Claim, Outcome, Study
from diffnag.search_loop.trial import Trial, best_of
from diffnag.spaces.loading import load_space

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.datasets.images import ImageDataset
    from diffnag.generators.diffusion.generator import Generator
    from diffnag.guidance.checked import CheckedPredictor
    from diffnag.networks.plan import Plan
    from diffnag.protocols import Oracle, Size

Note = Callable[[str], object]
OnTrial = Callable[[Trial], object]

FINAL_SECONDS = 45.0
"""Of one core, about, for that last training, where there is no time limit."""
FINAL_EPOCHS = 3
"""Times as many as of an evaluation, where these were asked for."""


class Search:
    """A search made ready: everything is loaded and checked, nothing evaluated. Use it in a `with` statement.

    `storage` (see `Study.open`) holds the study called `name`; one that is there goes on. Objects given as `oracle`
    (set up, with its `images` where it has any), `generator` or `predictor` (fresh) are used in place of those that
    `options` names, so that many searches can share what is slow to load. Raises `UserError` for whatever is wrong with
    the input.
    """

    def __init__(
        self,
        options: SearchOptions,
        *,
        storage: str | None = None,
        name: str = "search",
        oracle: Oracle | None = None,
        images: ImageDataset | None = None,
        generator: Generator | None = None,
        predictor: CheckedPredictor | None = None,
    ) -> None:
        begin = time.perf_counter()
        self.options = options = options.resolved()
        self.space = load_space(options.space)
        self.images = images
        """The user's own, None where the oracle knows the dataset."""
        if oracle is not None:
            self.oracle = oracle
        elif is_own_images(options, self.space):
            self.oracle, self.images = oracle_on_images(options, self.space)
        else:
            self.oracle = find_oracle(options.oracle, self.space)
            refuse_image_options(options, self.oracle)
        self.final_plan = self._plan_final()
        """How the best architecture is trained at the end, where there are images."""
        available = self.oracle.available
        if options.dataset not in available:
            raise unknown("dataset", options.dataset, available)
        if options.reward not in available[options.dataset]:
            raise unknown("split", options.reward, available[options.dataset])
        self.domain = Domain(
            self.space, options.dataset, max_params=options.max_params, max_flops=options.max_flops,
            size=self.final_size if self.images else None,
        )  # fmt: skip
        self.labels_source: Mapping[str, int] = {}
        self.method = self._make_method(generator, predictor)
        self.study = Study.open(storage=storage, name=name, space=self.space, options=self._identity())
        self._loading_s = time.perf_counter() - begin

    @property
    def oracle_name(self) -> str:
        """What was asked for, or what `auto` has taken."""
        return self.oracle.kind if self.options.oracle == "auto" else self.options.oracle

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.study.close()

    def run(self, *, on_trial: OnTrial = lambda _: None, on_note: Note = lambda _: None) -> SearchResult:
        """`work`, then `result`."""
        self.work(on_trial=on_trial, on_note=on_note)
        return self.result(on_note=on_note)

    def work(self, *, on_trial: OnTrial = lambda _: None, on_note: Note = lambda _: None) -> None:
        """Search until the budget or the time is spent, or nothing is left to evaluate, together with all workers of the study.

        `on_trial` is called with each label, also with those of the other workers; `on_note` with what a user should know
        of a round. Raises `PredictorError` where the predictor breaks its contract, `UserError` where the storage fails;
        what is evaluated by then is in the storage.
        """
        options, study = self.options, self.study
        told = {trial.number for trial in study.history}
        waits = False
        with study.answering():
            while True:
                study.refresh()
                for trial in study.history:
                    if trial.number not in told:
                        told.add(trial.number)
                        on_trial(trial)
                so_far = f"after {len(told)} of {options.budget} labels"
                if len(told) >= options.budget:
                    return
                if self._out_of_time:
                    on_note(f"the time is spent {so_far}")
                    return
                if claim := study.take() or self._plan(on_note):
                    self._evaluate(claim, on_note)
                elif study.others_at_work:
                    if not waits and study.planned >= options.budget:
                        waits = True
                        on_note(f"all is planned {so_far}; waiting for what other workers evaluate")
                    study.wait()
                elif study.exhausted:
                    on_note(f"nothing is left to evaluate {so_far}")
                    return

    def _plan(self, on_note: Note) -> Claim | None:
        """Plan a round, if it is on this worker to do so, and take the first place of it."""
        options, study = self.options, self.study
        if study.planned >= options.budget or study.exhausted or not study.begin_round():
            return None
        q = min(options.batch, options.budget - study.planned)
        batch = self.method.propose(study.history, q, pending=study.pending, generated=study.generated)
        for note in batch.notes:
            on_note(note)
        return study.plan(batch, last=study.planned + len(batch.proposals) >= options.budget)

    def result(self, *, on_note: Note = lambda _: None) -> SearchResult:
        """What the trials of all workers amount to; asks for the test value of the best by validation, which is no label."""
        with self.study.answering():
            self.study.refresh()
        options, spent, history = self.options, self.study.spent, self.study.history
        curve = [best_of(history[: i + 1]) for i in range(len(history))]
        return SearchResult(
            space=options.space, dataset=options.dataset, oracle={"kind": self.oracle.kind, **self.oracle.provenance()},
            reward=options.reward, method=options.method, predictor=options.predictor or "none", best=self._best(history, on_note),
            incumbent_curve=tuple(trial.value if trial else None for trial in curve), labels_target=len(history),
            epochs_target=sum(trial.epochs or 0 for trial in history) if isinstance(self.oracle, MultiFidelity) else None,
            seconds_target=round(sum(trial.cost_s for trial in history), 3),
            labels_source=self.labels_source, guidance=spent.guidance, wall_s=spent.wall_s, nfe=spent.nfe,
            predictor_nfe=spent.predictor_nfe, seed=options.seed, budget=options.budget, trials=history,
        )  # fmt: skip

    def _evaluate(self, claim: Claim, on_note: Note) -> None:
        """Pay for one label. An evaluation that raises or gives no finite number is a failed one, not the end."""
        arch, begin = claim.planned.proposal.arch, time.perf_counter()
        if isinstance(self.oracle, MultiFidelity):
            outcome = self._watch(claim, arch, self.oracle)
        else:
            outcome = Outcome(*self._ask(arch, self.options.reward), cost_s=0.0)
        if not self.study.tell(claim, replace(outcome, cost_s=time.perf_counter() - begin)):
            on_note(f"trial {claim.planned.number} was given to another worker, as this one had not been heard of for {PATIENCE:g} s")

    def _watch(self, claim: Claim, arch: Arch, oracle: MultiFidelity) -> Outcome:
        """An evaluation that is stopped where its values on the way are poor, or where the time is spent.

        The first that comes to an end is never stopped: without it there would be no best.
        """
        value, epochs = math.nan, 0
        may_stop = best_of(self.study.history) is not None
        try:
            for epochs, value in oracle.stages(arch, dataset=self.options.dataset, split=self.options.reward):
                if not math.isfinite(value):
                    break
                poor = self.study.report(claim, epochs=epochs, value=value)
                if may_stop and epochs < oracle.epochs and (poor or self._out_of_time):
                    return Outcome(value, None, 0.0, epochs, pruned=True)
        except UserError:
            raise
        except Exception as failure:
            return Outcome(None, f"{type(failure).__name__}: {failure}", 0.0, epochs)
        if not math.isfinite(value):
            return Outcome(None, f"the oracle returned {value}", 0.0, epochs)
        return Outcome(value, None, 0.0, epochs)

    @property
    def _out_of_time(self) -> bool:
        """Whether the search's share of the time is spent.

        Never before the first evaluation, and while none has come to an end not before all of it is spent in the loop.
        """
        limit = self.options.time_limit
        history = self.study.history
        if limit is None or not history:
            return False
        if best_of(history) is None:
            return self.study.spent.wall_s > limit
        return self.seconds_left < ((1 - SEARCH_SHARE) * limit if self.images else 0.0)

    @property
    def seconds_left(self) -> float:
        """Of the time limit; what this run took to load is spent as well. Infinite where there is no limit."""
        limit = self.options.time_limit
        return math.inf if limit is None else limit - self._loading_s - self.study.spent.wall_s

    def final_size(self, arch: Arch) -> Size:
        """Of the network that `arch` would be in the end, on the user's images."""
        assert self.images and self.final_plan
        shape = {"num_classes": len(self.images.classes), "image_size": self.images.size}
        return self.final_plan.skeleton.size(arch, self.space, **shape)

    def _plan_final(self) -> Plan | None:
        if self.images is None:
            return None
        from diffnag.networks.plan import plan_final

        options = self.options
        seconds = FINAL_SECONDS if options.time_limit is None else (1 - SEARCH_SHARE) * options.time_limit
        epochs = None if options.epochs is None else FINAL_EPOCHS * options.epochs
        return plan_final(self.images, self.space, seconds=seconds, epochs=epochs)

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
        if options.method == "tpe":
            return TPE(self.domain, options.seed)
        if options.method == "bananas":
            return bananas(self.domain, options.seed)
        if options.method == "gp-enumerate":
            return gp_enumerate(self.domain, options.seed, acquisition=options.acquisition or "ei")
        from diffnag.guidance.checked import load_predictor

        assert options.predictor and options.acquisition and options.candidates and options.scale is not None  # by `resolved`
        predictor = predictor or load_predictor(
            options.predictor, space=self.space, dataset=options.dataset, seed=options.seed, images=self.images
        )
        self.labels_source = predictor.labels_source
        return Diffnag(
            self.domain, options.seed, generator or self._load_generator(), predictor,
            acquisition=options.acquisition, candidates=options.candidates, scale=options.scale,
        )  # fmt: skip

    def _load_generator(self) -> Generator:
        from diffnag.generators.diffusion.denoiser import load_denoiser
        from diffnag.generators.diffusion.generator import Generator
        from diffnag.io.device import resolve_device

        device = resolve_device(self.options.device)
        return Generator(self.space, load_denoiser(self.space, self.options.checkpoint, device=device))

    def _identity(self) -> dict[str, Any]:
        """The options in which a study that goes on must agree with the one that was begun."""
        free = ("budget", "device", "oracle", "checkpoint", "time_limit", "image_size", "epochs")
        identity = {key: value for key, value in asdict(self.options).items() if key not in free}
        identity["oracle"] = self.oracle_name
        if self.images:
            identity["dataset"] = self.images.name  # wherever it lies: the oracle tells the images' checksum and the plan
        identity |= {f"oracle {key}": value for key, value in self.oracle.provenance().items()}
        if self.options.method == "diffnag":
            identity["checkpoint"] = self._checkpoint_checksum()
        return identity

    def _checkpoint_checksum(self) -> str | None:
        """Of the score network; None where a generator was handed in with none on file."""
        from diffnag.generators.diffusion.denoiser import shipped_denoiser
        from diffnag.io.checkpoint import weights_checksum

        path = self.options.checkpoint or shipped_denoiser(self.space.name)
        return weights_checksum(path) if path.is_file() else None


def run_search(
    options: SearchOptions,
    *,
    storage: str | None = None,
    name: str = "search",
    oracle: Oracle | None = None,
    images: ImageDataset | None = None,
    generator: Generator | None = None,
    predictor: CheckedPredictor | None = None,
) -> SearchResult:
    """Search without a word, by default in memory only; see `Search` for the arguments and the errors."""
    with Search(
        options, storage=storage, name=name, oracle=oracle, images=images, generator=generator, predictor=predictor
    ) as search:
        return search.run()
