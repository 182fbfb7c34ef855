"""What identifies a study: a search that is resumed must agree with it, or is refused."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from diffnag.datasets.images.asked import CLASSIFICATION
from diffnag.objectives.reading import LimitText
from diffnag.plugins import is_dotted, load_class, source_checksum
from diffnag.spaces.fingerprint import space_fingerprint

if TYPE_CHECKING:
    from diffnag.search_loop.assembly import Assembly
    from diffnag.search_loop.options import SearchOptions

FREE = (
    "budget", "device", "oracle", "generator", "checkpoint", "time_limit", "image_size", "epochs", "limit", "max_params", "max_flops",
    "minimise", "maximise", "model", "weights", "task", "from_scratch",
)  # fmt: skip
"""Options that a resumed search may change, or that `identity` stores in another form."""


def identity(parts: Assembly) -> dict[str, Any]:
    """The options in which a resumed search must agree with the one that began the study."""
    options = parts.options
    found = {key: value for key, value in asdict(options).items() if key not in FREE}
    found["space fingerprint"] = space_fingerprint(parts.space)
    found["oracle"] = parts.oracle_name
    found["objectives"] = [("maximise " if one.maximise else "minimise ") + one.name for one in parts.goal.objectives]
    found["limits"] = sorted({str(limit) for limit in parts.goal.limits})
    found |= {f"origin of {name}": origin for name, origin in parts.goal.origins.items()}
    if options.task != CLASSIFICATION:
        found["task"] = options.task
    if parts.images:
        found["dataset"] = parts.images.name  # wherever it lies: the oracle reports the checksum of the images and the plan
    found |= {f"oracle {key}": value for key, value in parts.oracle.provenance().items()}
    if parts.generator is not None:
        origin = parts.generator.provenance()
        found |= {"generator": origin.get("generator"), "checkpoint": origin.get("checkpoint")}
    return found


def code_checksums(options: SearchOptions) -> dict[str, str]:
    """Checksum of the source file of each plug-in that was given by a dotted path. Code may change between two runs of a search."""
    given: list[tuple[str, str | None]] = [(kind, getattr(options, kind)) for kind in ("space", "oracle", "predictor", "generator", "method")]
    limited = (LimitText.split(text).objective for text in options.limits)
    given += [("objective", name) for name in (*options.minimise, *options.maximise, *limited)]
    found = {name: source_checksum(load_class(kind, name)) for kind, name in given if name is not None and is_dotted(kind, name)}
    return {name: checksum for name, checksum in found.items() if checksum is not None}
