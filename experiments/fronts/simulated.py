"""Simulated devices of NAS-Bench-201: a limit on what can only be predicted, from ten measurements, until it is measured.

A name such as `experiments.fronts.simulated:pixel3@7` is the objective of a device in the benchmark's table, with a draw of the ten cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from experiments.device_transfer import FAMILIES, SAMPLES

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.datasets.tasks import Task
    from diffnag.devices.features import Features
    from diffnag.devices.prior import Prior
    from diffnag.networks.plan import Skeleton
    from diffnag.protocols import SearchSpace

SPACE = "nasbench201"


class Simulated:
    """Latency in ms of a device that nobody has measured but for ten cells, which are chosen by design.

    It is predicted as `latency:FILE` predicts it; but the prior has not seen the family of the device. A measurement is looked up.
    """

    device: ClassVar[str]
    draw: ClassVar[int]
    name: ClassVar[str]
    unit: ClassVar[str] = "ms"
    maximise: ClassVar[bool] = False
    paid: ClassVar[bool] = True
    measurable: ClassVar[bool] = True

    def setup(self, *, space: SearchSpace, task: Task, skeleton: Skeleton | None) -> None:
        """Measure the ten cells and learn from them; see `NeedsNetwork`."""
        from diffnag.devices.fewshot import FewShot

        del task, skeleton
        features, prior = _without_family(self.device)
        self._space, self._ms, self._model = space, exact_latencies(self.device), FewShot(features, prior)
        self.known = {arch: self._ms[space.to_str(arch)] for arch in _designed(self.device, self.draw)}
        self.learn([], [])

    def measure(self, arch: Arch, *, task: Task) -> float:
        """The latency in the table."""
        del task
        return self._ms[self._space.to_str(arch)]

    def predict(self, archs: Sequence[Arch]) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of a measurement in ms, `(b,)` each."""
        return self._model.predict(archs)

    def learn(self, archs: Sequence[Arch], values: Sequence[float] | np.ndarray) -> None:
        """Learn the ten cells and all that a search has measured."""
        known = self.known | dict(zip(archs, map(float, values), strict=True))
        self._model.fit(list(known), np.array(list(known.values())))


def __getattr__(name: str) -> type[Simulated]:
    """The class of `device@draw`."""
    device, at, draw = name.partition("@")
    if not at or not draw.isdecimal() or not any(device in family for family in FAMILIES.values()):
        raise AttributeError(name)
    return type(f"Simulated_{name}", (Simulated,), {"device": device, "draw": int(draw), "name": name, "__doc__": Simulated.__doc__})


@cache
def exact_latencies(device: str) -> dict[str, float]:
    """Latency in ms of every cell, as the space writes it."""
    from diffnag import load_space
    from diffnag.devices.tables import measured_latencies

    archs, ms = measured_latencies(load_space(SPACE))
    return dict(zip(archs, ms[device].tolist(), strict=True))


@cache
def _without_family(device: str) -> tuple[Features, Prior]:
    """The features of the space, and the prior of the devices of other families, of which the package ships fits."""
    from diffnag import load_space
    from diffnag.devices.features import Features
    from diffnag.devices.prior import learned_prior
    from diffnag.devices.shipped import known_devices

    space = load_space(SPACE)
    known = known_devices(space)
    assert known is not None, "the package ships devices of NAS-Bench-201"
    (family,) = (each for each in FAMILIES.values() if device in each)
    return Features(space), learned_prior([fit for name, fit in known.fits.items() if name not in family], known.names)


@cache
def _designed(device: str, draw: int) -> list[Arch]:
    """The cells that are measured first."""
    from diffnag.devices.design import choose

    return choose(*_without_family(device), SAMPLES, seed=draw)
