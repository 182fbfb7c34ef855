"""Names of torch devices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diffnag.errors import UserError

if TYPE_CHECKING:
    import torch


def resolve_device(name: str) -> torch.device:
    """The torch device called `name`; `auto` is the accelerator of this machine, or the CPU if it has none.

    Raises `UserError` for a device on which a small computation does not give the right result, such as `meta`.
    """
    import torch

    if name == "auto":
        found = torch.accelerator.current_accelerator(check_available=True)
        return found if found is not None else torch.device("cpu")
    try:
        device = torch.device(name)
        ones = torch.ones(2, 2, device=device)
        works = (ones @ ones).sum().item() == 8
    except Exception as error:  # torch, its extensions and drivers fail in many ways
        raise UserError(f"device {name!r} is not available here; try --device auto or cpu") from error
    if not works:
        raise UserError(f"device {name!r} computes wrong results; try --device auto or cpu")
    return device
