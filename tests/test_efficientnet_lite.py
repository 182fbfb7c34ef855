"""The space `efficientnet-lite`: strings, wiring, neighbours and draws, and parts of the published network with their resolutions."""

from __future__ import annotations

import math
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from diffnag import export
from diffnag.arch import Arch, ArchBatch
from diffnag.command.running import run_command
from diffnag.datasets.tasks import Task
from diffnag.devices.export import OWN, Export
from diffnag.devices.runner import network_run
from diffnag.errors import UserError
from diffnag.networks.classifier_file import load_model
from diffnag.networks.plan import Skeleton
from diffnag.networks.untrained import untrained
from diffnag.objectives.accuracy import Label
from diffnag.objectives.cost import Flops
from diffnag.objectives.goal import Goal, Limit
from diffnag.objectives.structure import Memory, network_bytes
from diffnag.oracles.checked import checked_oracle
from diffnag.oracles.training import TrainingOracle
from diffnag.predictors.gaussian_process import GaussianProcessPredictor
from diffnag.predictors.path_features import PathFeatures
from diffnag.protocols import Predictor, SearchSpace
from diffnag.search_loop.domain import Domain
from diffnag.search_spaces.efficientnet_lite.network import Block, Network, extract, full
from diffnag.search_spaces.efficientnet_lite.space import ABSENT, FIRST, RESOLUTIONS, EfficientNetLite
from diffnag.spaces.counting import measured_size
from diffnag.testing import PredictorContract, SearchSpaceContract, draws
from tests.edited import Change, edited
from tests.search_fakes import ToyOracle
from tests.trained_norms import network_of

SPACE = EfficientNetLite()
LARGEST = "224:3-6_3-6:5-6_5-6:3-6_3-6_3-6:5-6_5-6_5-6:5-6_5-6_5-6_5-6:3-6"
SMALLEST = "96:3-2_x:3-2_x:3-2_x_x:3-2_x_x:3-2_x_x_x:3-2"
MIXED = "160:3-4_x:5-6_3-3:3-2_x_3-6:5-2_x_x:3-6_5-4_x_5-3:3-3"


@pytest.fixture(name="space")
def _space() -> SearchSpace:
    return EfficientNetLite()


@pytest.fixture(name="shared", scope="module")
def _shared() -> Network:
    """The whole network, with statistics of normalisation that all differ."""
    return network_of(full(), num_classes=7)


def images_of(arch: Arch, count: int = 2) -> Tensor:
    side = SPACE.resolution(arch)
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))


class TestContract(SearchSpaceContract):
    pass


class TestGaussianProcess(PredictorContract):
    labels = 100

    @pytest.fixture
    def predictor_class(self) -> type[Predictor]:
        return GaussianProcessPredictor


class TestStrings:
    def test_nodes(self) -> None:
        arch = SPACE.from_str(MIXED)
        assert [SPACE.operators[op] for op in arch.ops] == [
            "160px", "mbconv4_3x3", "absent", "mbconv6_5x5", "mbconv3_3x3", "mbconv2_3x3", "absent", "mbconv6_3x3", "mbconv2_5x5", "absent",
            "absent", "mbconv6_3x3", "mbconv4_5x5", "absent", "mbconv3_5x5", "mbconv3_3x3",
        ]  # fmt: skip
        assert SPACE.to_str(arch) == MIXED and SPACE.resolution(arch) == 160
        parameters = SPACE.to_parameters(arch)
        assert parameters["resolution"] == "160" and parameters["stage 2 block 2"] == "x" and parameters["stage 6 block 4"] == "5-3"
        assert SPACE.parameters["stage 7 block 1"] == ("3-2", "3-3", "3-4", "3-6")
        assert SPACE.parameters["stage 6 block 2"] == ("3-2", "3-3", "3-4", "3-6", "5-2", "5-3", "5-4", "5-6", "x")

    def test_largest_and_smallest(self) -> None:
        assert SPACE.to_str(SPACE.largest) == LARGEST and SPACE.to_str(SPACE.smallest) == SMALLEST
        sizes = [SPACE.size(arch, num_classes=1000) for arch in (SPACE.smallest, *draws(SPACE, 100), SPACE.largest)]
        assert max(size.flops for size in sizes) == sizes[-1].flops and min(size.params for size in sizes) == sizes[0].params

    def test_number_of_architectures(self) -> None:
        """4 or 8 layers a block, one choice more where the block can be left out, 5 resolutions."""
        choices = [5, 4, 5, 8, 9, 4, 5, 5, 8, 9, 9, 8, 9, 9, 9, 4]
        assert [len(allowed) for allowed in SPACE.choices] == choices == [len(names) for names in SPACE.parameters.values()]
        assert round(math.prod(choices) / 1e13, 1) == 1.1

    @pytest.mark.parametrize(
        ("text", "rule"),
        [
            ("", "0 of 6 stages behind the resolution"),
            (MIXED.removeprefix("160:"), "5 of 6 stages"),
            (MIXED.replace("160", "150"), "the resolution '150'"),
            (MIXED.replace("5-2_x_x", "5-2_x"), "stage 5 has 2 blocks, not 3"),
            (MIXED.replace("3-4_x", "x_3-4"), "block 1 of stage 2 is 'x', not one of 3-2, 3-3, 3-4, 3-6"),
            (MIXED.replace("3-2_x_3-6", "3-2_5-2_3-6"), "block 2 of stage 4 is '5-2', not one of 3-2, 3-3, 3-4, 3-6, x"),
            (MIXED.replace("5-4_x", "5-5_x"), "block 2 of stage 6 is '5-5'"),
        ],
    )
    def test_other_text_is_refused_with_the_broken_rule(self, text: str, rule: str) -> None:
        with pytest.raises(UserError, match=f"no efficientnet-lite string: .*{rule}"):
            SPACE.from_str(text)


class TestMatrices:
    def test_wiring_by_hand(self) -> None:
        assert SPACE.from_str(MIXED).edges == (
            (0, 1), (1, 3), (3, 4), (4, 5), (5, 7), (7, 8), (8, 11), (11, 12), (12, 14), (14, 15)
        )  # fmt: skip

    def test_constant_entries(self) -> None:
        """Constant are exactly the entries that never vary over many draws in which every other block that can be left out is."""
        rng = np.random.default_rng(0)
        seldom = np.array([ABSENT in allowed for allowed in SPACE.choices])
        archs = [
            SPACE.of_operators(np.where(seldom & (rng.random(16) < 0.5), ABSENT, arch.ops).tolist()) for arch in draws(SPACE, 2_000)
        ]
        batch = ArchBatch.of(archs, SPACE)
        for part, constant in zip((batch.V, batch.E), SPACE.constant, strict=True):
            assert ((part.amin(0) == part.amax(0)).numpy() == constant).all()

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ([("V", 3, slice(None), 0)], "node 3 has 0 operators"),
            ([("V", 3, 0, 1)], "node 3 has 2 operators"),
            ([("V", 0, 2, 0), ("V", 0, FIRST, 1)], "node 0 is mbconv2_3x3, which it cannot be"),
            ([("V", 1, FIRST + 2, 0), ("V", 1, ABSENT, 1)], "node 1 is absent, which it cannot be"),
            ([("V", 2, ABSENT, 0), ("V", 2, FIRST + 4, 1)], "node 2 is mbconv2_5x5, which it cannot be"),
            ([("V", 2, ABSENT, 0), ("V", 2, FIRST, 1)], "edge 1->2 is missing with these blocks"),
            ([("E", 0, 2, 1)], "edge 0->2 is not in the space with these blocks"),
        ],
    )
    def test_reasons(self, changes: list[Change], reason: str) -> None:
        assert SPACE.decode(*edited(SPACE, MIXED, changes)) == (None, reason)


class TestNeighboursAndDraws:
    def test_neighbours_differ_in_one_choice(self) -> None:
        arch = SPACE.from_str(MIXED)
        found = SPACE.neighbours(arch)
        assert len(found) == sum(len(allowed) - 1 for allowed in SPACE.choices)
        assert all(sum(map(int.__ne__, arch.ops, other.ops)) == 1 for other in found)

    def test_random_is_uniform_over_the_choices_of_each_node(self) -> None:
        archs = draws(SPACE, 3_000)
        for node, allowed in enumerate(SPACE.choices):
            counts = Counter(arch.ops[node] for arch in archs)
            assert set(counts) == set(allowed)
            assert max(abs(count - 3_000 / len(allowed)) for count in counts.values()) < 5 * math.sqrt(3_000 / len(allowed))

    def test_picture_shows_what_is_present(self) -> None:
        picture = SPACE.picture(SPACE.from_str(MIXED))
        assert picture.texts[:4] == ("160px", "mbconv4_3x3", "mbconv6_5x5", "mbconv3_3x3") and len(picture.texts) == 11
        assert picture.panels[:4] == ("input", "stage 2", "stage 3", "stage 3") and picture.panels[-1] == "stage 7"


class TestNetwork:
    def test_members(self) -> None:
        assert tuple(SPACE.member(SPACE.largest)) == full()
        member = SPACE.member(SPACE.from_str(MIXED))
        assert member[0] == full()[0] and [k for k, part in enumerate(member) if part is None] == [2, 6, 9, 10, 13]
        assert member[1] == Block(16, 24, 64, 3, 2) and member[4] == Block(40, 40, 120, 3, 1) and member[15] == Block(192, 320, 576, 3, 1)

    def test_size_equals_the_built_network_at_its_own_resolution(self) -> None:
        for arch in [SPACE.smallest, SPACE.largest, SPACE.from_str(MIXED), *draws(SPACE, 3)]:
            measured = measured_size(SPACE.build(arch, num_classes=7), image_size=SPACE.resolution(arch))
            assert SPACE.size(arch, num_classes=7, image_size=32) == measured

    def test_published_size(self) -> None:
        """The authors give 4.7 million parameters and 407 million multiply-adds; these count the classifier and no normalisation."""
        size = SPACE.size(SPACE.largest, num_classes=1000)
        assert (size.params, size.flops) == (4_652_008, 385_188_552)

    @pytest.mark.parametrize("text", [SMALLEST, MIXED, LARGEST, None])
    def test_an_extracted_network_computes_what_the_shared_one_does(self, text: str | None, shared: Network) -> None:
        arch = SPACE.from_str(text) if text else draws(SPACE, 1)[0]
        member, images = SPACE.member(arch), images_of(arch)
        alone = extract(shared, member)
        with torch.no_grad():
            expected = shared(images, member)
            assert torch.equal(alone(images), expected) and expected.std() > 0.01
        built = SPACE.build(arch, num_classes=7)
        built.load_state_dict(alone.state_dict())
        assert torch.equal(built.eval()(images), expected)
        assert torch.equal(shared(images, full()), shared(images))

    @pytest.mark.parametrize(("name", "value", "only"), [("channels", 32, 24), ("cells", 2, 1), ("stem_stride", 1, 2)])
    def test_only_the_published_width(self, name: str, value: int, only: int) -> None:
        for asked in (SPACE.build, SPACE.size):
            with pytest.raises(UserError, match=f"parts of the published network: {name} must be {only}, not {value}"):
                asked(SPACE.smallest, num_classes=10, **{name: value})


class TestResolution:
    """What depends on the size of images takes that of each architecture."""

    def test_objectives(self) -> None:
        small, large = (SPACE.from_str(f"{side}{MIXED[3:]}") for side in (96, 224))
        task, memory, flops = Task.of("imagenet", SPACE), Memory(), Flops()
        for objective in (memory, flops):
            objective.setup(space=SPACE, task=task, skeleton=None)
            assert objective.measure(small, task=task) < objective.measure(large, task=task)
        assert memory.measure(small, task=task) == network_bytes(SPACE.build(small, num_classes=1000), image_size=96)

    def test_predictors_see_it(self) -> None:
        """Among random architectures hardly two differ in the resolution alone, so that the space's roles alone must show it."""
        same = [SPACE.from_str(f"{side}{MIXED[3:]}") for side in RESOLUTIONS]
        assert len({row.tobytes() for row in np.round(np.concatenate(PathFeatures(SPACE)(same), axis=1), 9)}) == len(RESOLUTIONS)

    def test_the_smallest_part_is_looked_at_for_limits(self) -> None:
        objective, task, looked_at = Flops(), Task.of("imagenet", SPACE), []

        class Watched(Flops):
            def measure(self, arch: Arch, *, task: Task) -> float:
                looked_at.append(SPACE.to_str(arch))
                return objective.measure(arch, task=task)

        watched = Watched()
        for one in (objective, watched):
            one.setup(space=SPACE, task=task, skeleton=None)
        least = objective.measure(SPACE.smallest, task=task)
        goal = Goal(task, (Label(checked_oracle("toy", ToyOracle()), "val"),), (Limit("flops", high=least),), (watched,))
        assert Domain(SPACE, goal).allows(SPACE.smallest) and SMALLEST in looked_at
        tighter = Goal(task, goal.objectives, (Limit("flops", high=least - 1),), (watched,))
        with pytest.raises(UserError, match=f"the least is {least:,.0f}"):
            Domain(SPACE, tighter)

    def test_exports_that_are_timed(self, tmp_path: Path) -> None:
        onnxruntime = pytest.importorskip("onnxruntime")
        wanted = Export.of(SPACE, num_classes=3, image_size=224)
        assert wanted.image_size == OWN and "images of each architecture's own resolution" in str(wanted)
        assert wanted.size(SPACE.smallest, SPACE) == SPACE.size(SPACE.smallest, num_classes=3)
        wanted.write(tmp_path / "a.onnx", SPACE.smallest, SPACE)
        content = (tmp_path / "a.onnx").read_bytes()
        (images,) = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"]).get_inputs()
        assert images.shape[1:] == [3, 96, 96]
        assert network_run(content, batch=2, threads=1)()[0].shape == (2, 3)

    def test_exports_of_arrays(self, tmp_path: Path) -> None:
        onnxruntime = pytest.importorskip("onnxruntime")
        skeleton = Skeleton(24, 1, 2, inputs=(4, 20, 30))
        wanted = Export.of(SPACE, num_classes=3, image_size=30, skeleton=skeleton)
        assert wanted.arguments == "--num-classes 3 --inputs 4,20,30 --channels 24 --cells 1 --stem-stride 2 --batch 1 --threads 1"
        assert str(wanted).endswith("3 classes, arrays (channels, height, width) = (4, 20, 30), batch 1, 1 thread")
        assert wanted.size(SPACE.smallest, SPACE) == SPACE.with_channels(4).size(SPACE.smallest, num_classes=3)
        wanted.write(tmp_path / "a.onnx", SPACE.smallest, SPACE)
        (images,) = onnxruntime.InferenceSession((tmp_path / "a.onnx").read_bytes(), providers=["CPUExecutionProvider"]).get_inputs()
        assert images.shape[1:] == [4, 20, 30]

    def test_a_network_written_by_the_command(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
        path = tmp_path / "model.pt"
        given = ["export", MIXED, "--space", "efficientnet-lite", "--num-classes", "3", "--out", str(path)]
        monkeypatch.setattr(sys, "argv", given)
        run_command(export.main)
        assert f"{SPACE.size(SPACE.from_str(MIXED), num_classes=3).flops:,} multiply-adds" in capsys.readouterr().out
        assert load_model(path).description.image_size == 160
        monkeypatch.setattr(sys, "argv", [*given, "--input-size", "224"])
        with pytest.raises(SystemExit):
            run_command(export.main)
        assert "has a resolution of its own: the images have 160 pixels a side, not 224" in capsys.readouterr().err

    def test_one_size_for_all_is_refused(self) -> None:
        with pytest.raises(UserError, match="oracle 'training' takes images of one size for all architectures"):
            TrainingOracle().setup(space=SPACE)
        with pytest.raises(UserError, match="space 'nasbench201' have no resolution of their own"):
            untrained("nasbench201", "|none~0|+|none~0|none~1|+|nor_conv_3x3~0|none~1|none~2|", num_classes=2)
