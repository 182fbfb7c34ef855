"""What is written to a storage: the attributes of attempts, how they are made, and how they are read and checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from diffnag.errors import UserError, in_a_line
from diffnag.search_loop.trial import Batch, Generated, Proposal

if TYPE_CHECKING:
    from diffnag.protocols import SearchSpace

NAMED = 6
"""Differing options that are named when a study is refused; an oracle may have dozens."""
SCHEMA = 5
"""Version of what is written; studies of another version are refused."""

# Attributes of an attempt. `round` is there from the start. An attempt that was made to begin a round gets its `plan` and belongs to
# its first place; if there are several, the earliest counts. The others have `number`, of their place, and `arch`. `outcome` is
# there shortly before the attempt is finished.
ROUND, PLAN, NUMBER, ARCH, OUTCOME = "round", "plan", "number", "arch", "outcome"
ABANDONED = "abandoned"
"""Marks an attempt that is no label; its value says whether the plan on it stands."""


@dataclass(frozen=True)
class Outcome:
    """What an evaluation gave: a value, or an error in its place."""

    value: float | None
    error: str | None
    cost_s: float
    epochs: int | None = None
    pruned: bool = False
    asked: bool = True
    """Whether the oracle was asked, see `Trial.asked`."""
    values: Mapping[str, float] = field(default_factory=dict)
    """Value by objective, see `Trial.values`."""
    wall_s: float = 0.0
    """Seconds in the loop until then, over all runs."""
    code: Mapping[str, str] = field(default_factory=dict)
    """Plug-in given by dotted path -> checksum of its source file."""


def written_outcome(outcome: Outcome) -> dict[str, Any]:
    """The attribute `outcome`."""
    return asdict(outcome)


def read_outcome(value: object) -> Outcome:
    """The outcome from its attribute; raises `ValueError` if it is damaged."""
    written = _mapping(value, "outcome")
    error = written["error"]
    found = None if written["value"] is None else _number(written["value"], "value")
    if not (error is None or isinstance(error, str)) or (found is None) != (error is not None):
        raise ValueError("it has neither a value nor an error")
    pruned, asked = (_truth(written[name], name) for name in ("pruned", "asked"))
    epochs = None if written["epochs"] is None else _count(written["epochs"], "epochs")
    values = {str(name): _number(one, name) for name, one in _mapping(written["values"], "values").items()}
    code = {str(name): str(one) for name, one in _mapping(written["code"], "code").items()}
    cost_s, wall_s = (_number(written[name], name) for name in ("cost_s", "wall_s"))
    return Outcome(found, error, cost_s, epochs, pruned, asked, values, wall_s, code)


def written_plan(batch: Batch, space: SearchSpace, *, labels: int) -> dict[str, Any]:
    """The attribute `plan`; architectures are written as the space's strings. `labels` with a value were known to the planner."""
    generated = batch.generated
    return {
        "labels": labels,
        "proposals": [(space.to_str(one.arch), one.predicted_mean, one.predicted_std) for one in batch.proposals],
        "nfe": batch.nfe, "predictor_nfe": batch.predictor_nfe, "guidance": batch.guidance,
        "generated": None if generated is None else {
            "labels": generated.labels, "guidance": generated.guidance, "archs": [space.to_str(arch) for arch in generated.archs],
        },
    }  # fmt: skip


def read_plan(value: object, space: SearchSpace) -> tuple[Batch, int]:
    """The batch from its attribute, and the number of labels that were known to the planner.

    Raises `ValueError` if it is damaged, `UserError` for strings that are not of the space.
    """
    written = _mapping(value, "plan")
    proposals = []
    for text, *predicted in written["proposals"]:
        mean, std = (None if one is None else _number(one, "prediction") for one in predicted)
        proposals.append(Proposal(space.from_str(_text(text, "architecture")), mean, std))
    generated = None
    if written["generated"] is not None:
        made = _mapping(written["generated"], "generated")
        archs = tuple(space.from_str(_text(text, "architecture")) for text in made["archs"])
        generated = Generated(_count(made["labels"], "labels"), archs, _text(made["guidance"], "guidance"))
    counts = _count(written["nfe"], "nfe"), _count(written["predictor_nfe"], "predictor_nfe")
    return Batch(tuple(proposals), _text(written["guidance"], "guidance"), *counts, generated), _count(written["labels"], "labels")


@contextmanager
def undamaged(attribute: str, trial: int, *, study: str) -> Iterator[None]:
    """Turn what reading a damaged attribute raises into one sentence."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, UserError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else in_a_line(error, typed=False)
        raise UserError(f"{study} is damaged: attribute {attribute!r} of trial {trial} cannot be read ({reason}); give another --study") from error


def refuse_other(made: object, asked: Mapping[str, Any], *, study: str) -> None:
    """Raise `UserError` for a study that was made with other options than those `asked` for; `made` is its attribute `options`."""
    if made is None:
        raise UserError(f"{study} was not made by diffnag.search; give another --study")
    if not isinstance(made, Mapping):
        raise UserError(f"{study} is damaged: its attribute 'options' is {made!r}; give another --study")
    if made.get("schema") != SCHEMA:
        raise UserError(f"{study} was made by another version of diffnag, which writes studies in another way; give another --out or --study")
    if other := [key for key in {**made, **asked} if made.get(key) != asked.get(key)]:
        differing = "; ".join(f"{key} {made.get(key)!r}, not {asked.get(key)!r}" for key in other[:NAMED])
        differing += f", and {len(other) - NAMED} more" if len(other) > NAMED else ""
        raise UserError(
            f"{study} was made with {differing}: it goes on only with the options it was made with (the budget may grow); "
            f"give another --out for others"
        )


def _mapping(value: object, name: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} is no mapping")
    return value


def _text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{name} is no text")
    return value


def _truth(value: object, name: str) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{name} is no truth value")
    return value


def _number(value: object, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name} is no number")
    return float(value)


def _count(value: object, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{name} is no whole number of at least 0")
    return value
