"""What a search prints while it runs, and at its end."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from diffnag.objectives.quantities import with_unit
from diffnag.protocols import Explains, HasNotes
from diffnag.search_loop.fronts import chance_of, doubts, values_of
from diffnag.search_loop.show.front import member_lines
from diffnag.search_loop.show.measure import Measure
from diffnag.search_loop.show.text import folded
from diffnag.search_loop.trial import Trial, best_first

if TYPE_CHECKING:
    from diffnag.datasets.images import ImageDataset
    from diffnag.objectives.goal import Goal
    from diffnag.protocols import Objective, SearchSpace
    from diffnag.search_loop.finish.finished import Finish, Score, Share
    from diffnag.search_loop.loop import Search
    from diffnag.search_loop.result import SearchResult

SHOWN, SHOWN_OF_FRONT = 5, 8
"""Architectures in the final list, and members of a front there."""
WIDTH = 100
"""Characters of a line if there is no terminal, and at most if there is one."""
INDENT = 10
"""Characters in which the labels of the first lines stand."""


class Screen:
    """Progress of one search: a live bar on a terminal, otherwise a line for each trial. Use it in a `with` statement."""

    def __init__(self) -> None:
        self.console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
        self._width = min(self.console.width, WIDTH)
        bar = (TextColumn("{task.description}", markup=False), BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn())
        self._progress = Progress(*bar, console=self.console, transient=True) if self.console.is_terminal else None
        self._done, self._budget, self._what = 0, 0, ""
        self._goal: Goal | None = None
        self._history: list[Trial] = []
        self._measure = Measure("table")

    def __enter__(self) -> Self:
        if self._progress:
            self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._end_bar()

    @property
    def done(self) -> str:
        """How far the search is: `12 of 30 labels`."""
        return f"{self._done} of {self._budget} labels" if self._budget else "no labels"

    def begin(self, search: Search, *, folder: Path) -> None:
        """Print what is searched, and by what; continue from the trials that are there already."""
        self._measure = Measure(search.parts.oracle.kind, search.parts.label.name)
        for key, text in _about(search, self._measure, folder).items():
            self._say(text, label=key, indent=INDENT)
        notes = [one.note for one in search.parts.goal.all if isinstance(one, Explains) and one.note]
        about_space = search.space.notes if isinstance(search.space, HasNotes) else ()
        for note in [*about_space, *(search.images.notes if search.images else ()), *notes]:
            self.note(note)
        history, options = search.study.history, search.options
        self._done, self._budget, self._what = len(history), options.budget, self._measure.name(options.reward)
        self._goal, self._history = search.parts.goal, list(history)
        if self._progress:
            self._task = self._progress.add_task("searching", total=options.budget, completed=self._done)

    def trial(self, trial: Trial) -> None:
        """One more label."""
        self._done += 1
        self._history.append(trial)
        best = self._so_far()
        if trial.error is not None:
            self._say(f"trial {trial.number} failed: {trial.error}")
        if self._progress:
            self._progress.update(self._task, completed=self._done, description=f"best so far {best}")
        elif trial.value is not None:
            early = f" when stopped after {trial.epochs} epochs" if trial.pruned else ""
            others = f", {_others(self._goal, trial, self._goal.objectives[1:])}" if self._goal and self._goal.has_front else ""
            self._print(f"{self._done:>4}/{self._budget}  {self._what} {self._measure.figure(trial.value)}{others}{early}  best {best}")

    def _so_far(self) -> str:
        """The best label that meets all limits, and the size of the front if there are several objectives."""
        assert self._goal
        best = self._goal.best(self._history)
        if best is None or best.value is None:
            return "none yet"
        members = f", front of {len(self._goal.front(self._history))}" if self._goal.has_front else ""
        return self._measure.figure(best.value) + members

    def progress(self, what: str, done: int, of: int) -> None:
        """How far the work after the search is."""
        if self._progress:
            self._progress.update(self._task, description=what, completed=done, total=of)
        elif done == of or done % max(of // 4, 1) == 0:
            self._say(f"{what}: {done} of {of}")

    def note(self, text: str) -> None:
        """A sentence for the user."""
        self._say(f"note: {text}")

    def end(self, result: SearchResult, space: SearchSpace, *, folder: Path, finish: Finish | None = None) -> None:
        """Print the best architectures, what they cost, where the results are, and what can be done next."""
        self._end_bar()
        if result.best is None:
            self._say(_nothing(result, self._goal))
        elif result.front is not None:
            self._list_front(result)
        else:
            self._list_best(result, space)
        self._say_what_is_predicted(result, folder)
        if finish:
            self._list_finished(finish)
        states: Counter[str] = Counter(trial.state for trial in result.trials)
        paid = "".join(f", {states[state]} {word}" for state, word in (("pruned", "stopped early"), ("failed", "failed")) if states[state])
        if result.epochs_target is not None:
            paid += f", {result.epochs_target:,} epochs"
        guidance = f", guidance {result.guidance}" if result.predictor != "none" else ""
        paid += "".join(f", {count} measurements of {name}" for name, count in result.measurements.items())
        self._say(
            f"{result.labels_target} labels of the target{paid}, {_source(result.labels_source)}; {result.nfe} network evaluations, "
            f"{result.predictor_nfe} of the predictor{guidance}; {result.wall_s:.1f} s",
            label="cost", indent=INDENT,
        )  # fmt: skip
        files = ["report.html", "result.json", "trials.csv", "search.png", *(["front.csv", "front.png"] if result.front else [])]
        files += ["model.pt"] if finish else []
        files += ["confusion.png"] if finish and finish.best.confusion is not None else []
        files += ["model.onnx"] if finish and finish.onnx_max_abs_difference is not None else []
        files += ["model.int8.onnx"] if finish and finish.eight_bits else []
        self._say(f"{folder}: {', '.join(files)}", label="results", indent=INDENT)
        self._say(_next(folder, finish=finish), label="next", indent=INDENT)

    def _list_best(self, result: SearchResult, space: SearchSpace) -> None:
        """The best architectures with their values; predictions only if they are in the unit of the labels."""
        unit = f" ({self._measure.unit})" if self._measure.unit else ""
        on = Path(result.dataset).name
        self._say(f"best of {result.labels_target} labels on {on}, by {self._measure.name(result.reward)}{unit}")
        figure = self._measure.figure
        done = best_first(self._goal.complete(result.trials) if self._goal else result.trials)[:SHOWN]
        for place, trial in enumerate(done):
            assert trial.value is not None
            about = [figure(trial.value)]
            if trial.predicted_mean is not None and trial.labels_known:
                about.append(f"predicted {figure(trial.predicted_mean)} when it was chosen")
            if place == 0 and result.best and result.best.test is not None and result.reward != "test":
                about.append(f"{self._measure.name('test')} {figure(result.best.test)}")
            if self._goal and (others := _others(self._goal, trial, self._goal.beside)):
                about.append(others)
            self._say("; ".join(about), label=f"{place + 1:>3}", indent=5)
            self._say(space.to_str(trial.arch), indent=5)

    def _list_front(self, result: SearchResult) -> None:
        """The members of the front with the best labels."""
        front = result.front
        assert front
        count = f"{len(front.members)} {'member' if len(front.members) == 1 else 'members'}"
        self._say(f"front of {count} after {result.labels_target} labels, that with the best {result.objectives[0].name} first")
        for place, (values, arch) in enumerate(member_lines(front, result.objectives, most=SHOWN_OF_FRONT, with_test=result.reward != "test")):
            self._say(values, label=f"{place + 1:>3}", indent=5)
            self._say(arch, indent=5)

    def _say_what_is_predicted(self, result: SearchResult, folder: Path) -> None:
        """A note for each objective whose values are predictions: how likely the limits are met, and how it is measured."""
        goal = self._goal
        if goal is None or result.best is None:
            return
        best = goal.front(result.trials)
        for one in goal.unmeasured:
            if not any(one.name in doubts(goal, trial) for trial in best):
                continue
            text = f"values of {one.name} are predictions, as it cannot be measured here"
            if any(limit.objective == one.name for limit in goal.limits):
                chances = [f"{100 * chance_of(goal, trial):.0f}" for trial in sorted(best, key=lambda trial: chance_of(goal, trial))]
                shown = chances[0] if chances[0] == chances[-1] else f"{chances[0]} to {chances[-1]}"
                text += f"; by these, its limits are met with a probability of {shown} %"
            self.note(text)
            if isinstance(one, Explains):
                self._say("to measure these architectures, and to go on with what is measured:")
                for command in one.how_to_measure(folder / ("front.csv" if result.front else "trials.csv"), folder=folder):
                    self._print(f"  {command}")

    def _list_finished(self, finish: Finish) -> None:
        """The final model and the rivals that it is compared with."""
        self._say(f"trained fully on {finish.images.name}, tested once")
        rows = (finish.best, *finish.others)
        indent = 4 + max(len(row.name) for row in rows)
        for row in rows:
            validation = "" if row.validation is None else f"; validation, {row.judged}, {_share(row.validation)}"
            self._say(f"test {self._measure.what} {_share(row.test)}{validation}", label=f"  {row.name}", indent=indent)
            self._say(f"{row.size.params:,} parameters, {row.size.flops:,} multiply-adds", indent=indent)
            self._say(row.arch, indent=indent)
        best, onnx = finish.best, finish.onnx_max_abs_difference
        self._say(
            f"{(best.plan or finish.plan).with_epochs(best.epochs)} in {best.seconds:.1f} s, {best.test.images} test images; intervals are of 95 %"
            + ("" if onnx is None else f"; model.onnx differs from torch by at most {onnx:.1g}"),
            label="network", indent=INDENT,
        )  # fmt: skip
        if finish.eight_bits:
            self._say(f"model.int8.onnx: {finish.eight_bits}", label="8 bits", indent=INDENT)

    def _end_bar(self) -> None:
        if self._progress:
            self._progress.stop()
            self._progress = None

    def _say(self, text: str, *, label: str = "", indent: int = 0) -> None:
        self._print(folded(text, width=self._width, label=label, indent=indent))

    def _print(self, text: str) -> None:
        self.console.print(text, markup=False, soft_wrap=True)


def _about(search: Search, measure: Measure, folder: Path) -> Mapping[str, str]:
    """Label -> text of the lines that open a search."""
    options, images = search.options, search.images
    rows = {"predictor": f"{options.predictor}, {_source(search.labels_source)}"} if options.predictor else {}
    rows |= {"space": options.space, "dataset": options.dataset if images is None else _images(images), "oracle": _oracle(search, measure)}
    if images:
        rows["network"] = _networks(search)
    details = f", acquisition {options.acquisition}, scale {options.scale:g}" if options.scale is not None else ""
    if search.parts.generator is not None:
        details = f", generator {search.parts.generator.provenance().get('generator')}{details}"
    rows |= {"method": options.method + details, "reward": _reward(search, measure)}
    goal = search.parts.goal
    if goal.has_front:
        rows["goal"] = ", ".join(f"{'maximise' if one.maximise else 'minimise'} {one.name}" for one in goal.objectives)
    if goal.limits:
        rows["limits"] = ", ".join(goal.limit_texts)
    rows["budget"] = f"{options.budget} labels, {options.batch} a round"
    if options.time_limit is not None:
        rows["budget"] += f", within {options.time_limit:g} s with the final training"
    rows["out"] = str(folder)
    if history := search.study.history:
        rows["resumed"] = f"{len(history)} labels are there already"
    return rows


def _reward(search: Search, measure: Measure) -> str:
    if search.images:
        return f"{measure.name('val')}; the best by it is trained on training and validation images and tested once"
    options = search.options
    name = measure.name(options.reward)
    who = "members of the front are asked for their" if search.parts.goal.has_front else "the best by it is asked for its"
    if options.reward == "test":
        return f"{name} (protocol T)"
    tested = "test" in search.parts.oracle.available[options.dataset]
    return f"{name}; {who} {measure.name('test')} once, at the end" if tested else name


def _oracle(search: Search, measure: Measure) -> str:
    """Kind and provenance of the oracle; of several figures for this dataset and split, the least. result.json has all of it."""
    oracle, options = search.parts.oracle, search.options
    if search.images:
        return f"{oracle.kind} on these images (sha256 {_short(search.images.sha256)}), judged on those of validation"
    origin = oracle.provenance()
    about = {key: value for key, value in origin.items() if key not in ("kind", "space") and "/" not in key}
    for key, value in origin.items():
        name = key.split("/")[0]
        if f"/{options.dataset}/{options.reward}" in key and isinstance(value, int | float):
            about[name] = min(value, float(about.get(name, value)))
    note = f"every {measure.what} below is a surrogate's, none is measured" if oracle.kind == "surrogate" else about.get("note", "")
    details = ", ".join(f"{key.replace('_', ' ')} {_short(value)}" for key, value in about.items() if key != "note")
    text = f"{oracle.kind} ({details})" if details else oracle.kind
    return f"{text}: {note}" if note else text


def _images(images: ImageDataset) -> str:
    parts = [(len(part.y), name) for part, name in ((images.train, "training"), (images.val, "validation"), (images.test, "test"))]
    counts = ", ".join(f"{count:,} {name}" for count, name in parts)
    many = len(images.classes) != 1
    kinds = {"regression": f"{len(images.classes)} number{'s' * many}", "multi-label": f"{len(images.classes)} label{'s' * many}"}
    about = f"{images.name}: {kinds.get(images.task, f'{len(images.classes)} classes')}; {counts}"
    if images.inputs is None:
        return f"{about} images, {'grey' if images.channels == 1 else 'colour'}, {images.size} x {images.size}"
    c, h, w = images.inputs
    return f"{about} {'signals' if h == 1 else 'arrays'}, {c} channel{'s' * (c > 1)}, {f'length {w:,}' if h == 1 else f'{w} x {h}'}"


def _networks(search: Search) -> str:
    plans = {"evaluated": getattr(search.oracle, "plan", None), "finally": search.final_plan}
    return "; ".join(f"{what}: {plan}" for what, plan in plans.items() if plan)


def _next(folder: Path, *, finish: Finish | None) -> str:
    """What a user may do with the results."""
    more = "the same command with a larger --budget continues the search"
    if finish:
        photos, does = finish.images.inputs is None, "classifies" if finish.images.task == "classification" else "answers for"
        return f"diffnag.load_model('{folder / 'model.pt'}').predict({'IMAGE' if photos else 'ARRAY'}) {does} an image; {more}"
    return f"python -m diffnag.draw draws an architecture, python -m diffnag.export writes its network as model.pt or ONNX; {more}"


def _others(goal: Goal, trial: Trial, objectives: Sequence[Objective]) -> str:
    """The values of objectives beside the label."""
    values, doubtful, parts = values_of(goal, trial), doubts(goal, trial), []
    for one in objectives:
        predicted = ", predicted" if one.name in doubtful else ""
        parts.append(f"{one.name} {with_unit(values[one.name], one.unit) + predicted if one.name in values else 'unknown'}")
    return "; ".join(parts)


def _nothing(result: SearchResult, goal: Goal | None) -> str:
    """Why there is no best architecture."""
    whole = [trial for trial in result.trials if trial.value is not None]
    for one in goal.beside if goal else ():
        if whole and not any(one.name in trial.values for trial in whole):
            return f"objective {one.name!r} has no value for any evaluation; trials.csv has those of the others"
    if whole and goal:
        return f"no evaluation meets the limits {', '.join(goal.limit_texts)}; trials.csv has the values"
    return "every evaluation failed; trials.csv says why"


def _share(share: Share | Score) -> str:
    interval = "" if share.interval is None else f" ({100 * share.interval[0]:.1f} to {100 * share.interval[1]:.1f})"
    figures = "".join(f", {name} {value:.4g}" for name, value in getattr(share, "figures", {}).items())
    return f"{100 * share.value:.2f} %{interval}{figures}"


def _short(value: str | float) -> str:
    """A checksum by its first 12 digits, a fraction by its first 3."""
    if isinstance(value, str):
        return value[:12] if re.fullmatch("[0-9a-f]{32,}", value) else value
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


def _source(labels: Mapping[str, int]) -> str:
    parts = ", ".join(f"{count:,} from {origin}" for origin, count in labels.items())
    return f"{sum(labels.values()):,} source labels" + (f" ({parts})" if parts else "")
