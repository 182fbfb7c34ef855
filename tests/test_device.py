"""Names of devices: those that work, and all others refused in one sentence."""

from __future__ import annotations

import warnings

import pytest
import torch

from diffnag.errors import UserError
from diffnag.io.device import resolve_device


def test_the_cpu_and_what_is_best() -> None:
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto").type in ("cpu", *([found.type] if (found := torch.accelerator.current_accelerator()) else []))


@pytest.mark.parametrize("name", ["meta", "hpu", "cuda:99", "xla", "vulkan", "privateuseone", "mkldnn", "toaster", "", "cpu:x", "-1"])
def test_devices_that_do_not_compute_are_refused(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of some of them before it fails
        with pytest.raises(UserError, match=f"device '{name}' is not available here; try --device auto or cpu"):
            resolve_device(name)
