"""Size of a built network, counted on the network itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diffnag.protocols import Size

if TYPE_CHECKING:
    import torch
    from torch import nn


def measured_size(network: nn.Module, *, image_size: int, inputs: tuple[int, int, int] | None = None) -> Size:
    """Trainable parameters of `network`, and multiply-adds of its convolutions and linear layers for one image of `image_size` pixels a side.

    `inputs` are channels, height and width of images that are no square ones of 3 channels.
    """
    import torch
    from torch import nn

    counted = []

    def count(module: nn.Module, _: object, output: torch.Tensor) -> None:
        outputs = output[0, 0].numel() if isinstance(module, nn.Conv2d) else 1  # pixels at which the weights are used
        counted.append(outputs * sum(parameter.numel() for parameter in module.parameters()))

    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    training = network.training
    with torch.no_grad():
        network.eval()(torch.zeros(1, *(inputs or (3, image_size, image_size)), device=next(network.parameters(), torch.empty(0)).device))
    network.train(training)
    for hook in hooks:
        hook.remove()
    return Size(params=sum(p.numel() for p in network.parameters() if p.requires_grad), flops=sum(counted))
