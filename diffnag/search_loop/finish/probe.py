"""The linear probe: the pretrained network as it is, with a classifier that is fitted to its features. What a user would try first."""

from __future__ import annotations

import time

from diffnag.io.device import resolve_device
from diffnag.networks.adapted import statistics_of
from diffnag.networks.classifier_file import Classifier, Description
from diffnag.networks.elastic import Resized
from diffnag.protocols import GivesNetworks, Inherits
from diffnag.search_loop.finish.finished import BY_TRAINING, Finished, Score
from diffnag.search_loop.finish.training import as_described, confusion, kept
from diffnag.search_loop.loop import Search
from diffnag.spaces.counting import measured_size
from diffnag.spaces.inputs import side_of

PROBE = "linear probe"


def finish_probe(search: Search) -> Finished | None:
    """The linear probe, judged on the test images; None if the oracle of the search has no pretrained network."""
    oracle, space, images, plan = search.oracle, search.space, search.images, search.final_plan
    if not isinstance(oracle, GivesNetworks) or not isinstance(space, Inherits):
        return None
    assert images and plan
    begin = time.perf_counter()
    arch, network, accuracy = oracle.probe()
    text, side = space.to_str(arch), side_of(arch, space, images.size)
    described = Description(search.options.space, text, plan.skeleton, images.classes, side, *as_described(statistics_of(images, space), images))
    plain = kept(Resized(network.to("cpu"), side), images)
    model, size = Classifier(plain, described).eval(), measured_size(plain, image_size=side, inputs=images.inputs)
    device = resolve_device(search.options.device)
    return Finished(
        name=PROBE, arch=text, model=model, size=size, labels=0,
        validation=Score.of_percent(accuracy, images), confusion=confusion(model.to(device), images.test),
        epochs=0, learning_rate=0.0, seconds=time.perf_counter() - begin, judged=BY_TRAINING,
    )  # fmt: skip
