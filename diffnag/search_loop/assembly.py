"""Makes a search ready: loads and checks everything that it needs, and pays for no label."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from diffnag.datasets.images.asked import CLASSIFICATION
from diffnag.datasets.tasks import Task
from diffnag.errors import UserError
from diffnag.io.device import resolve_device
from diffnag.objectives.accuracy import Label, is_maximised, label_name
from diffnag.objectives.goal import Goal
from diffnag.objectives.reading import load_objective, read_goal
from diffnag.oracles.checked import CheckedOracle, checked_oracle
from diffnag.plugins import named_errors
from diffnag.protocols import HasResNetLike, Inherits, ShipsWeights
from diffnag.search_loop.domain import Domain
from diffnag.search_loop.methods.base import Setting
from diffnag.search_loop.options import SEARCH_SHARE, SearchOptions
from diffnag.search_loop.oracle import find_oracle, is_own_images, oracle_on_images, refuse_image_options, refuse_unavailable
from diffnag.spaces.inputs import whole_networks
from diffnag.spaces.loading import load_space

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.datasets.images import ImageDataset
    from diffnag.guidance.checked import CheckedPredictor
    from diffnag.networks.plan import Plan
    from diffnag.protocols import Generator, Method, Oracle, SearchSpace

FINAL_SECONDS = 30.0
"""Seconds of one core, about, for the final training, if there is no time limit."""
FINAL_EPOCHS = 3
"""The final training has so many times the epochs that are asked for an evaluation."""


@dataclass(frozen=True)
class Assembly:
    """The parts of a search, ready for use."""

    options: SearchOptions
    """With all defaults filled in."""
    space: SearchSpace
    task: Task
    oracle: CheckedOracle
    images: ImageDataset | None
    """A user's own images; None if the oracle knows the dataset."""
    final_plan: Plan | None
    """How the best architecture is trained at the end, if there are images."""
    label: Label
    goal: Goal
    domain: Domain
    method: Method
    generator: Generator | None
    """None if the method uses none."""
    labels_source: Mapping[str, int]
    """Origin -> number of source labels behind the predictor."""

    @property
    def oracle_name(self) -> str:
        """The oracle that was asked for, or the one that `auto` has chosen."""
        return self.oracle.kind if self.options.oracle == "auto" else self.options.oracle


def assemble(
    options: SearchOptions,
    *,
    oracle: Oracle | None = None,
    images: ImageDataset | None = None,
    generator: Generator | None = None,
    predictor: CheckedPredictor | None = None,
) -> Assembly:
    """Load and check the parts of a search.

    Args:
        options: What is searched for, and how.
        oracle: Used in place of the one that `options` names; it must be set up.
        images: The user's own images, if `oracle` was set up with some.
        generator: Used in place of the one that `options` names.
        predictor: Used in place of the one that `options` names; it must be fresh.

    Raises:
        UserError: Whatever is wrong with the input.
    """
    options = options.resolved()
    if options.device != "auto":
        resolve_device(options.device)  # also where nothing is computed on it: a mistake is better found now
    space = load_space(options.space)
    if options.weights is not None:
        if not isinstance(space, Inherits):
            raise UserError(f"--weights is for a pretrained network whose parts are searched, and space {space.name!r} has none; leave it out")
        space.weights = options.weights
    if options.from_scratch:
        if not isinstance(space, ShipsWeights):
            why = "is made of a pretrained network" if isinstance(space, Inherits) else "ships no weights to start from"
            raise UserError(f"--from-scratch is for a space whose networks start from shipped weights, and {space.name!r} {why}; leave it out")
        space.shipped = None
    if oracle is not None:
        checked = checked_oracle(options.oracle, oracle)
    elif is_own_images(options, space):
        checked, images = oracle_on_images(options, space)
    else:
        checked = find_oracle(options.oracle, space)
        refuse_image_options(options, checked)
    notes: list[str] = []
    final_plan = None if images is None else plan_last(options, images, space, on_note=notes.append)
    images = replace(images, notes=(*images.notes, *notes)) if images else None
    refuse_unavailable(options, checked)
    task = Task(options.dataset, images=images)
    name = label_name(space, dataset=options.dataset, kind=checked.kind, images=images)
    label = Label(checked, options.reward, name, maximise=is_maximised(space, name))
    load = partial(load_objective, space=space, task=task, skeleton=final_plan.skeleton if final_plan else None)
    goal = read_goal(task, label, load, minimise=options.minimise, maximise=options.maximise, limits=options.limits)
    domain = Domain(space, goal, _first(space, options, images))
    loader = _Loader(options, space, images, generator, predictor)
    method = loader.method(domain)
    return Assembly(options, space, task, checked, images, final_plan, label, goal, domain, method, loader.generator, loader.labels_source)


def _first(space: SearchSpace, options: SearchOptions, images: ImageDataset | None) -> tuple[Arch, ...]:
    """The whole pretrained network at each resolution; where networks are trained from scratch within a time limit, the residual one."""
    timed = images is not None and options.time_limit is not None
    if timed and not isinstance(space, Inherits) and isinstance(space, HasResNetLike):
        return (space.from_str(space.resnet_like),)
    return tuple(whole_networks(space))


class _Loader:
    """Makes the method and what it asks for: a predictor and a generator, or the objects that the caller gave instead."""

    def __init__(
        self, options: SearchOptions, space: SearchSpace, images: ImageDataset | None, generator: Generator | None,
        predictor: CheckedPredictor | None,
    ) -> None:  # fmt: skip
        self._options, self._space, self._images = options, space, images
        self._given = {"generator": generator, "predictor": predictor}
        self.generator, self._predictor = generator, predictor
        self.labels_source: dict[str, int] = {}
        if predictor is not None:
            predictor.check_for(space, options.dataset)
        if generator is not None and generator.space.name != space.name:
            raise UserError(f"the generator is for space {generator.space.name!r}, not for {space.name!r}; load it again")

    def method(self, domain: Domain) -> Method:
        """The method, made; raises `UserError` if it makes no use of an object that was given."""
        options = self._options
        setting = Setting(domain, options.seed, options, self._load_predictor, self._load_generator)
        cls = options.method_class()
        with named_errors("method", options.method, "of", cls):
            method = cls.of(setting)
        if useless := [f"a {kind}" for kind, unused in self._given.items() if unused is not None]:
            raise UserError(f"method {options.method!r} makes no use of {' and '.join(useless)}; leave it out")
        return method

    def _load_predictor(self, name: str) -> CheckedPredictor:
        from diffnag.guidance.checked import load_predictor

        options = self._options
        if self._predictor is not None and self._given["predictor"] is not None and name == options.predictor:
            found, self._given["predictor"] = self._predictor, None
        else:
            found = load_predictor(name, space=self._space, dataset=options.dataset, seed=options.seed, images=self._images)
        self.labels_source |= found.labels_source
        return found

    def _load_generator(self) -> Generator:
        from diffnag.generators.loading import load_generator

        options = self._options
        self._given["generator"] = None
        if self.generator is None:
            device = resolve_device(options.device)
            self.generator = load_generator(self._space, options.generator, checkpoint=options.checkpoint, device=device)
        return self.generator


def plan_last(
    options: SearchOptions, images: ImageDataset, space: SearchSpace, *, on_note: Callable[[str], object] = lambda note: None
) -> Plan:  # fmt: skip
    """The plan of the final training, whose network is the one that the objectives mean.

    Where time is left for a larger network than the one that the space ships weights for, they are used only if they are a `head_start`; else
    a note says so.
    """
    from diffnag.networks.plan import plan_final, plan_fine_tuning

    limit = options.time_limit
    seconds = FINAL_SECONDS if limit is None else (1 - SEARCH_SHARE) * limit
    epochs = None if options.epochs is None else FINAL_EPOCHS * options.epochs
    if isinstance(space, Inherits):
        return plan_fine_tuning(images, space, epochs=epochs, timed=limit is not None)
    plan_with = partial(plan_final, images, space, seconds=seconds, epochs=epochs)
    plan = plan_with()
    if limit is None or not plan.started or images.task != CLASSIFICATION or not isinstance(space, HasResNetLike):
        return plan
    larger = plan_with(may_start=False)
    if (larger.skeleton.channels, larger.skeleton.cells) <= (plan.skeleton.channels, plan.skeleton.cells):
        return plan
    from diffnag.search_loop.head_start import SHARE, head_start

    found = head_start(images, space, plan.skeleton, seconds=SHARE * limit, seed=options.seed)
    if found.pays:
        return plan
    on_note(str(found))
    return larger
