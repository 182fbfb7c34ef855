"""The prior of a space: what the package ships of devices that were measured, or the general one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from diffnag.devices.features import Features
from diffnag.devices.fewshot import FewShot
from diffnag.devices.prior import Fit, general_prior, learned_prior
from diffnag.io.files import PRETRAINED
from diffnag.spaces.fingerprint import check_fingerprint
from diffnag.spaces.paths import COUNTINGS

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.devices.prior import Prior
    from diffnag.protocols import SearchSpace, Size

KIND = "latency"
NEEDS: Mapping[str, type] = {"space": str, "space_fingerprint": str, "columns": list, "devices": list, "countings": list}


@dataclass(frozen=True)
class KnownDevices:
    """Fits of devices whose latencies of all architectures are known."""

    names: tuple[str, ...]
    """Names of the columns that the weights belong to."""
    fits: Mapping[str, Fit]
    """Device -> its fit."""

    @classmethod
    def load(cls, path: Path, space: SearchSpace) -> KnownDevices:
        """Read a file of `python -m diffnag.train_latency`; raises `UserError` if it is damaged or of another space."""
        from diffnag.io.checkpoint import load_checkpoint, rebuilding

        tensors, meta = load_checkpoint(path, kind=KIND, needs=NEEDS)
        check_fingerprint(space, meta["space_fingerprint"], what=str(path))
        with rebuilding(path):
            if strange := set(meta["countings"]) - set(COUNTINGS):
                raise ValueError(f"{min(strange)!r} is no way to count")
            arrays = {name: tensors[name].double().numpy() for name in ("weights", "levels", "noises")}
            rows = zip(meta["countings"], arrays["weights"], arrays["levels"].tolist(), arrays["noises"].tolist(), strict=True)
            fits = dict(zip(meta["devices"], (Fit(*row) for row in rows), strict=True))
            return cls(tuple(meta["columns"]), fits)


def shipped_file(space: SearchSpace) -> Path:
    """Path of the shipped devices of a space; the file need not exist."""
    return PRETRAINED / space.name / "latency.safetensors"


def known_devices(space: SearchSpace) -> KnownDevices | None:
    """The shipped devices of a space, or None."""
    path = shipped_file(space)
    return KnownDevices.load(path, space) if path.is_file() else None


def prior_for(space: SearchSpace, size: Callable[[Arch], Size]) -> tuple[Features, Prior]:
    """Features of a space and the prior over their weights; `size` counts the networks whose latency is wanted."""
    if known := known_devices(space):
        return Features(space), learned_prior(list(known.fits.values()), known.names)
    features = Features(space, size)
    return features, general_prior(features)


def model_for(space: SearchSpace, size: Callable[[Arch], Size]) -> FewShot:
    """A model of a device of which nothing is measured yet."""
    return FewShot(*prior_for(space, size))
