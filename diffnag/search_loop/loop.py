"""The search: one loop and one account of labels for every method."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Sequence
from functools import cache
from types import TracebackType
from typing import TYPE_CHECKING, Self

from scipy.special import ndtri

from diffnag.datasets.images.asked import CLASSIFICATION
from diffnag.errors import UserError
from diffnag.plugins import named_errors
from diffnag.protocols import Prepares
from diffnag.search_loop.assembly import assemble
from diffnag.search_loop.evaluation import Measurements, ask, evaluate
from diffnag.search_loop.fronts import front_of, incumbents, values_of, wanted, with_predictions
from diffnag.search_loop.identity import code_checksums, identity
from diffnag.search_loop.methods.base import taken
from diffnag.search_loop.options import SearchOptions
from diffnag.search_loop.oracle import search_share
from diffnag.search_loop.result import Best, SearchResult
from diffnag.search_loop.study.leases import PATIENCE
from diffnag.search_loop.study.study import Study
from diffnag.search_loop.trial import Batch, Known, Trial, best_of

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.datasets.images import ImageDataset
    from diffnag.guidance.checked import CheckedPredictor
    from diffnag.protocols import Generator, Oracle
    from diffnag.search_loop.study.claims import Claim

Note = Callable[[str], object]
OnTrial = Callable[[Trial], object]
Test = Callable[[Trial], float | None]


ALL_RIGHT = 100.0
"""Accuracy in % of a network that makes no mistake."""


class Search:
    """A search that is ready to run. Use it in a `with` statement.

    Args:
        options: What is searched for, and how.
        storage: Where the study is kept, see `Study.open`; None is memory.
        name: The name of the study; one that is there is resumed.
        oracle, images, generator, predictor: Used in place of what `options` names, so that many searches can share what is slow to
            load; see `assemble`.

    Raises:
        UserError: Whatever is wrong with the input.
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
        self.parts = parts = assemble(options, oracle=oracle, images=images, generator=generator, predictor=predictor)
        self.options, self.space, self.domain, self.oracle = parts.options, parts.space, parts.domain, parts.oracle.plugin
        self.images, self.final_plan, self.labels_source = parts.images, parts.final_plan, parts.labels_source
        self._code = code_checksums(parts.options)
        directions = {one.name: one.maximise for one in parts.goal.objectives}
        self.study = Study.open(storage=storage, name=name, space=parts.space, options=identity(parts), directions=directions)
        self._loading_s = time.perf_counter() - begin

    @property
    def oracle_name(self) -> str:
        """The oracle that was asked for, or the one that `auto` has chosen."""
        return self.parts.oracle_name

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.study.close()

    def prepare(self, *, on_progress: Callable[[str, int, int], object] = lambda what, done, of: None) -> None:
        """Let the oracle do what it has to do before its first answer."""
        if isinstance(self.oracle, Prepares) and not self.is_over:
            self.oracle.prepare(on_progress=on_progress)

    def run(self, *, on_trial: OnTrial = lambda _: None, on_note: Note = lambda _: None) -> SearchResult:
        """`prepare`, `work`, then `result`."""
        self.prepare()
        self.work(on_trial=on_trial, on_note=on_note)
        return self.result(on_note=on_note)

    def work(self, *, on_trial: OnTrial = lambda _: None, on_note: Note = lambda _: None) -> None:
        """Search until the budget or the time is spent, or nothing is left to evaluate or to gain, together with all workers of the study.

        Args:
            on_trial: Called with each label, those of other workers included.
            on_note: Called with sentences for the user.

        Raises:
            PredictorError: The predictor breaks its contract.
            UserError: The storage fails. What is evaluated by then is in the storage.
        """
        options, study = self.options, self.study
        for name, seen in study.code.items():
            if self._code.get(name, seen[-1]) != seen[-1]:
                on_note(f"the code of plug-in {name!r} has changed since the last label; result.json lists the checksums of both")
        reported = {trial.number for trial in study.history}
        measurements = Measurements(self.parts.goal, on_note)
        waits = False
        with study.answering():
            while True:
                study.refresh()
                new = [trial for trial in study.history if trial.number not in reported] if len(study.history) > len(reported) else []
                for trial in new:
                    reported.add(trial.number)
                    on_trial(trial)
                so_far = f"after {len(reported)} of {options.budget} labels"
                if len(reported) >= options.budget:
                    return
                if self._out_of_time:
                    on_note(f"the time is spent {so_far}")
                    return
                if self._all_right:
                    on_note(f"all validation images are right {so_far}: none can be better, so the search ends")
                    return
                if claim := study.take() or self._plan(on_note):
                    self._evaluate(claim, measurements, on_note)
                    measurements.check()
                elif study.others_at_work:
                    if not waits and study.planned >= options.budget:
                        waits = True
                        on_note(f"all is planned {so_far}; waiting for what other workers evaluate")
                    study.wait()
                elif study.exhausted:
                    on_note(f"nothing is left to evaluate {so_far}")
                    return

    def result(self, *, on_note: Note = lambda _: None) -> SearchResult:
        """The result of all workers' trials; asks for the test value of the best by validation, which is no label."""
        with self.study.answering():
            self.study.refresh()
        options, parts, spent, history = self.options, self.parts, self.study.spent, self.study.history
        goal, test = parts.goal, self._test(on_note)
        return SearchResult(
            space=options.space, dataset=options.dataset, oracle={"kind": parts.oracle.kind, **parts.oracle.provenance()},
            reward=options.reward, method=options.method, predictor=options.predictor or "none", best=self._best(history, test, on_note),
            incumbent_curve=incumbents(goal, history), labels_target=sum(trial.asked for trial in history),
            epochs_target=sum(trial.epochs or 0 for trial in history) if parts.label.watched else None,
            seconds_target=round(sum(trial.cost_s for trial in history), 3),
            labels_source=self.labels_source, guidance=spent.guidance, wall_s=spent.wall_s, nfe=spent.nfe,
            predictor_nfe=spent.predictor_nfe, seed=options.seed, budget=options.budget, trials=with_predictions(goal, history), code=self.study.code,
            objectives=wanted(goal), limits=tuple(map(str, goal.limits)), front=front_of(goal, history, self.space, test=test),
            measurements={one.name: sum(one.name in trial.values for trial in history) for one in goal.measured},
        )  # fmt: skip

    @property
    def is_over(self) -> bool:
        """Whether more labels are not wanted: the budget is spent, or the best has all validation images right, which none can exceed."""
        return len(self.study.history) >= self.options.budget or self._all_right

    @property
    def seconds_left(self) -> float:
        """What is left of the time limit, for which loading counts as well; infinite without a limit."""
        limit = self.options.time_limit
        return math.inf if limit is None else limit - self._loading_s - self.study.wall_s

    # -- how

    def _plan(self, on_note: Note) -> Claim | None:
        """Plan a round, if no other worker does so, and claim its first place."""
        options, study = self.options, self.study
        if study.planned >= options.budget or study.exhausted or not study.begin_round():
            return None
        batch = self._proposed(study.known, min(options.batch, options.budget - study.planned))
        for note in batch.notes:
            on_note(note)
        return study.plan(batch, last=study.planned + len(batch.proposals) >= options.budget)

    def _proposed(self, known: Known, q: int) -> Batch:
        """The proposals of the method; those of a user's own method are checked."""
        method = self.parts.method
        if type(method).__module__.startswith("diffnag."):
            return method.propose(known, q)
        with named_errors("method", self.options.method, "propose", type(method)):
            batch = method.propose(known, q)
            archs = [proposal.arch for proposal in batch.proposals]
            fresh = len(list(self.domain.fresh(archs, taken(self.domain, known))))
        if not fresh == len(archs) <= q:
            raise UserError(
                f"method {self.options.method!r} proposed {len(archs)} architectures, {fresh} of them new and within the limits; "
                f"accepted are at most {q}, all of them so"
            )
        return batch

    def _evaluate(self, claim: Claim, measurements: Measurements, on_note: Note) -> None:
        """Pay for one label."""
        history = self.study.history
        arch, goal = claim.planned.proposal.arch, self.parts.goal
        free = {one.name: goal.measure(one, arch) for one in goal.objectives[1:] if not one.paid} if self.parts.label.watched else {}

        def stop(epochs: int, value: float) -> bool:
            poor = self.study.report(claim, epochs=epochs, value=value, free=free)
            # the first that comes to an end is never stopped: there would be no best
            return best_of(history) is not None and (poor or self._out_of_time)

        outcome = evaluate(arch, self.parts.label, goal, stop=stop, take=measurements.take, untried=not history)
        if not self.study.tell(claim, outcome, code=self._code):
            on_note(f"trial {claim.planned.number} was given to another worker, as this one was not heard of for {PATIENCE:g} s")

    @property
    def _out_of_time(self) -> bool:
        """Whether the search's share of the time is spent.

        It never is before the first evaluation. As long as none has come to an end, the search may use the whole time limit.
        """
        limit = self.options.time_limit
        history = self.study.history
        if limit is None or not history:
            return False
        if best_of(history) is None:
            return self.study.wall_s > limit
        return self.seconds_left < ((1 - search_share(self.oracle)) * limit if self.images else 0.0)

    @property
    def _all_right(self) -> bool:
        """Whether the best makes no mistake on the validation images, and nothing else is asked for."""
        goal = self.parts.goal
        if self.images is None or self.images.task != CLASSIFICATION or goal.has_front:
            return False
        best = goal.best(self.study.history)
        return best is not None and best.value is not None and best.value >= ALL_RIGHT

    def _best(self, history: tuple[Trial, ...], test: Test, on_note: Note) -> Best | None:
        goal = self.parts.goal
        trial = goal.best(history)
        if trial and self.images and self.images.task == CLASSIFICATION and not goal.has_front:
            trial = first_as_good(goal.complete(history), trial, self.domain.first, judged=len(self.images.val.y), on_note=on_note)
        if trial is None or trial.value is None:
            return None
        arch, values = self.space.to_str(trial.arch), values_of(self.parts.goal, trial)
        return Best(arch=arch, predicted=trial.predicted_mean, value=trial.value, test=test(trial), values=values)

    def _test(self, on_note: Note) -> Test:
        """A function that asks once for the test value of a trial, which is no label; None if there is none."""
        parts = self.parts

        @cache
        def test(trial: Trial) -> float | None:
            if self.options.reward == "test":
                return trial.value
            if "test" not in parts.oracle.available[self.options.dataset]:
                return None
            found, error = ask(trial.arch, parts.label.on("test"), parts.task)
            if error is not None:
                on_note(f"the test evaluation of the best failed: {error}")
            return found

        return test


def first_as_good(trials: Sequence[Trial], best: Trial, first: Collection[Arch], *, judged: int, on_note: Note) -> Trial:
    """The first of `trials` that is among the `first` architectures and as good as `best`, as far as `judged` images can tell; else `best`.

    Of many architectures the one with the best validation accuracy was lucky as well, and of more of them luckier. So the margin, in
    standard errors, is two for one rival and grows with their number (the correction of Bonferroni, at 5 %).
    """
    assert best.value is not None
    rivals = max(1, sum(one.value is not None for one in trials) - 1)
    least = best.value - 100 * float(-ndtri(0.025 / rivals)) * standard_error(best.value / 100, judged)
    found = next((one for one in trials if one.value is not None and one.value >= least and one.arch in first), best)
    if found.value is not None and found.value < best.value:
        equal = f"{found.value:.4g} % is as good as {best.value:.4g} %"
        on_note(f"as far as {judged} validation images can tell, {equal}, and what was tried first is taken")
    return found


def standard_error(share: float, count: int) -> float:
    """Standard error of a share of `count` images: Agresti & Coull (1998), so that it is not 0 where all of few images are right."""
    n = count + 4
    p = (share * count + 2) / n
    return math.sqrt(p * (1 - p) / n)


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
    """Search without printing anything, by default in memory only; see `Search` for the arguments and the errors."""
    with Search(
        options, storage=storage, name=name, oracle=oracle, images=images, generator=generator, predictor=predictor
    ) as search:
        return search.run()
