"""Names of torch devices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diffnag.errors import UserError

if TYPE_CHECKING:
    import torch


def resolve_device(name: str) -> torch.device:
    """`auto` takes an accelerator where there is one; anything else is a torch device name."""
    import torch

    if name == "auto":
        found = torch.accelerator.current_accelerator(check_available=True)
        return found if found is not None else torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device {name!r} is not available here; try --device auto or cpu") from error
    return device
