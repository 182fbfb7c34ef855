"""The space `mobilenetv3`: strings, wiring, neighbours and draws, and the networks of Once-for-All."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from diffnag.arch import ArchBatch
from diffnag.errors import UserError
from diffnag.predictors.gaussian_process import GaussianProcessPredictor
from diffnag.predictors.path_features import RoleMasks, path_features
from diffnag.protocols import Predictor, SearchSpace
from diffnag.search_spaces.mobilenetv3.network import InvertedBottleneck, SqueezeExcitation, divisible
from diffnag.search_spaces.mobilenetv3.space import ABSENT, MobileNetV3
from diffnag.spaces.counting import measured_size
from diffnag.spaces.roles import roles_of
from diffnag.testing import PredictorContract, SearchSpaceContract, draws
from tests.edited import Change, edited
from tests.exporting import onnx_difference

SPACE = MobileNetV3()
SMALLEST = ":".join(["3-3_3-3"] * 5)
LARGEST = ":".join(["7-6_7-6_7-6_7-6"] * 5)
MIXED = "5-6_5-4_3-6_3-6:3-3_3-3:7-4_5-6_3-3:5-4_5-6:3-4_7-3_5-6"


@pytest.fixture(name="space")
def _space() -> SearchSpace:
    return MobileNetV3()


class TestContract(SearchSpaceContract):
    pass


class TestGaussianProcess(PredictorContract):
    labels = 100

    @pytest.fixture
    def predictor_class(self) -> type[Predictor]:
        return GaussianProcessPredictor


class TestStrings:
    def test_slots(self) -> None:
        arch = SPACE.from_str(MIXED)
        names = [SPACE.operators[op] for op in arch.ops]
        assert names[:8] == [
            "mbconv6_5x5", "mbconv4_5x5", "mbconv6_3x3", "mbconv6_3x3", "mbconv3_3x3", "mbconv3_3x3", "absent", "absent"
        ]
        assert [names[slot] for slot in (10, 11, 14, 18, 19)] == ["mbconv3_3x3", "absent", "absent", "mbconv6_5x5", "absent"]
        assert SPACE.to_parameters(arch)["stage 2 depth"] == "2" and SPACE.to_parameters(arch)["stage 5 layer 2"] == "7-3"

    @pytest.mark.parametrize(
        ("text", "rule"),
        [
            ("", "1 of 5 stages"),
            (MIXED + ":3-3_3-3", "6 of 5 stages"),
            (MIXED.replace("5-4_5-6:", "5-4:"), "stage 4 has 1 layers, not 2 to 4"),
            (MIXED.replace("5-4_5-6:", "5-4_5-4_5-4_5-4_5-4:"), "stage 4 has 5 layers"),
            (MIXED.replace("7-3", "9-3"), "stage 5 has a layer '9-3'"),
            (MIXED.replace("7-3", ""), "stage 5 has a layer ''"),
            ("|nor_conv_3x3~0|+|none~0|none~1|+|none~0|none~1|none~2|", "1 of 5 stages"),
        ],
    )
    def test_other_text_is_refused_with_the_broken_rule(self, text: str, rule: str) -> None:
        with pytest.raises(UserError, match=f"no mobilenetv3 string: .*{rule}"):
            SPACE.from_str(text)


class TestMatrices:
    def test_wiring_by_hand(self) -> None:
        """With depths 4, 2, 3, 2, 3 the used slots are 0-3, 4-5, 8-10, 12-13, 16-18."""
        assert SPACE.from_str(MIXED).edges == (
            (0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 8), (8, 9), (9, 10), (10, 12), (12, 13), (13, 16), (16, 17), (17, 18)
        )

    def test_constant_entries(self) -> None:
        """Constant are exactly the entries that never vary over many draws; 22 edges vary: 2 in each stage, 3 between two stages."""
        batch = ArchBatch.of(draws(SPACE, 2_000), SPACE)
        for part, constant in zip((batch.V, batch.E), SPACE.constant, strict=True):
            assert ((part.amin(0) == part.amax(0)).numpy() == constant).all()
        assert (~SPACE.constant[1]).sum() == 22
        assert batch.mask.all()

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ([("V", 3, slice(None), 0)], "node 3 has 0 operators"),
            ([("V", 3, 0, 1)], "node 3 has 2 operators"),
            ([("V", 4, 0, 0), ("V", 4, ABSENT, 1)], "node 4 is absent, but a stage has at least 2 layers"),
            ([("V", 2, 2, 0), ("V", 2, ABSENT, 1)], "node 3 is a layer, but node 2 before it in the stage is absent"),
            ([("E", 9, 10, 0)], "edge 9->10 is missing with these layers"),
            ([("E", 0, 2, 1)], "edge 0->2 is not in the space with these layers"),
        ],
    )
    def test_reasons(self, changes: list[Change], reason: str) -> None:
        assert SPACE.decode(*edited(SPACE, MIXED, changes)) == (None, reason)


class TestNeighboursAndDraws:
    def test_number_of_neighbours(self) -> None:
        """A stage of depth d has 8 d neighbours with another layer, 1 without the last if d > 2, and 9 with one more if d < 4."""
        for arch in draws(SPACE, 20):
            depths = [len(stage) for stage in SPACE.stages(arch)]
            assert len(SPACE.neighbours(arch)) == sum(8 * d + (d > 2) + 9 * (d < 4) for d in depths)

    def test_random_is_uniform_over_depths_and_layers(self) -> None:
        archs = draws(SPACE, 3_000)
        depths = Counter(len(stage) for arch in archs for stage in SPACE.stages(arch))
        assert all(abs(depths[depth] - 5_000) < 300 for depth in (2, 3, 4))  # five standard deviations
        layers = Counter(op for arch in archs for op in arch.ops if op != ABSENT)
        assert all(abs(count - 5_000) < 350 for count in layers.values()) and len(layers) == 9

    def test_choices_for_layers_beyond_the_depth_do_not_matter(self) -> None:
        parameters = SPACE.to_parameters(SPACE.from_str(MIXED))
        assert SPACE.from_parameters({**parameters, "stage 2 layer 4": "7-6"}) == SPACE.from_str(MIXED)


class TestFeatures:
    def test_absent_slots_leave_no_trace(self) -> None:
        """Operators are counted in each stage, the longest path is the number of layers, absent slots do not count."""
        archs = draws(SPACE, 50)
        batch = ArchBatch.of(archs, SPACE)
        structure, flow = path_features(batch.V.numpy(), batch.E.numpy(), RoleMasks.of(roles_of(SPACE)), np.array(SPACE.parts))
        counts = structure[:, :50].reshape(-1, 5, 10)
        expected = [[[stage.count(op) for op in range(9)] for stage in SPACE.stages(arch)] for arch in archs]
        assert (counts[..., :9] == expected).all() and not counts[..., ABSENT].any()
        depth = [sum(map(len, SPACE.stages(arch))) for arch in archs]
        assert (structure[:, 50] == depth).all() and (structure[:, 51] == depth).all()
        assert not flow[:, ABSENT].any()


class TestNetwork:
    @pytest.mark.parametrize(
        ("text", "params"),
        [  # numbers for the sub-networks of the authors' package (ofa, width 1.0, 1,000 classes)
            ("5-4_7-3_7-6:3-4_7-4:3-6_3-6_7-4_5-3:7-4_3-6:5-6_5-4_3-3", 4_619_112),
            ("7-4_7-3:5-4_7-4_3-6_5-4:3-4_3-6_3-4_5-4:3-4_5-3_5-3_7-6:5-4_3-6", 4_870_496),
            ("7-3_3-3:5-4_5-4:7-6_7-3:3-3_7-3_3-6_5-4:3-6_7-3_3-4_3-6", 5_560_992),
        ],
    )
    def test_parameters_equal_those_of_ofa(self, text: str, params: int) -> None:
        assert SPACE.size(SPACE.from_str(text), num_classes=1000).params == params

    @pytest.mark.parametrize(("channels", "image_size", "stem_stride"), [(24, 224, 2), (8, 33, 1), (16, 47, 2), (12, 32, 3)])
    def test_size_equals_the_built_network(self, channels: int, image_size: int, stem_stride: int) -> None:
        for arch in [*map(SPACE.from_str, (SMALLEST, LARGEST)), *draws(SPACE, 2)]:
            network = SPACE.build(arch, channels=channels, num_classes=7, stem_stride=stem_stride)
            size = SPACE.size(arch, channels=channels, num_classes=7, image_size=image_size, stem_stride=stem_stride)
            assert size == measured_size(network, image_size=image_size)

    def test_stages_are_those_of_mobilenetv3(self) -> None:
        """Widths, sides, activations and squeeze-and-excitation of Howard et al. (2019), table 1, in OFA's five stages."""
        network = SPACE.build(SPACE.from_str(SMALLEST), num_classes=10).eval()
        x, seen = network.stem(torch.zeros(1, 3, 64, 64)), []
        for block in network.blocks:
            x = block(x)
            kinds = {type(module) for module in block.modules()}
            seen.append((*x.shape[1:3], nn.Hardswish in kinds, SqueezeExcitation in kinds, block.shortcut))
        assert seen == [
            (16, 32, False, False, True),
            (24, 16, False, False, False), (24, 16, False, False, True),
            (40, 8, False, True, False), (40, 8, False, True, True),
            (80, 4, True, False, False), (80, 4, True, False, True),
            (112, 4, True, True, False), (112, 4, True, True, True),
            (160, 2, True, True, False), (160, 2, True, True, True),
        ]  # fmt: skip

    def test_block_by_hand(self) -> None:
        """Expansion, depthwise convolution, squeeze-and-excitation, projection, plus the input."""
        torch.manual_seed(0)
        block = SPACE.build(SPACE.from_str(SMALLEST), channels=8, num_classes=2).eval().blocks[4]
        assert isinstance(block, InvertedBottleneck)
        expand, norm, _, depthwise, norm2, _, squeeze, project, norm3 = block.layers
        x = torch.randn(2, expand.in_channels, 5, 5)
        h = norm2(nn.functional.conv2d(norm(expand(x)).relu(), depthwise.weight, padding=1, groups=depthwise.in_channels)).relu()
        reduce, _, back, _ = squeeze.gate
        h = h * ((back(reduce(h.mean((2, 3), keepdim=True)).relu()) + 3).clamp(0, 6) / 6)
        torch.testing.assert_close(block(x), x + norm3(project(h)))

    def test_widths_are_multiples_of_eight(self) -> None:
        assert [divisible(width) for width in (1, 11, 12, 19.2, 28.8, 112 * 1.2)] == [8, 16, 16, 24, 32, 136]

    @pytest.mark.parametrize("side", [32, 33, 63, 96])
    def test_any_size_from_32_up(self, side: int) -> None:
        network = SPACE.build(SPACE.from_str(LARGEST), channels=8, num_classes=3)
        logits = network(torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0)))
        assert logits.shape == (2, 3) and logits.isfinite().all()

    def test_every_weight_is_used(self) -> None:
        torch.manual_seed(0)
        network = SPACE.build_small(SPACE.from_str(MIXED), num_classes=5, image_size=8)
        network(torch.randn(8, 3, 8, 8)).square().sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())

    def test_an_architecture_is_a_whole_network(self) -> None:
        arch = SPACE.from_str(SMALLEST)
        for asked in (SPACE.build, SPACE.size):
            with pytest.raises(UserError, match="cells must be 1, not 2"):
                asked(arch, cells=2, num_classes=10)  # type: ignore[operator]

    @pytest.mark.slow
    @pytest.mark.timeout(300)
    def test_onnx(self, tmp_path: Path) -> None:
        for k, arch in enumerate(draws(SPACE, 2)):
            assert onnx_difference(arch, SPACE, channels=8, image_size=32, path=tmp_path / f"{k}.onnx") <= 1e-4
