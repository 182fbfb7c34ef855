"""Parts of a user's own model: groups and blocks, exact sizes, equality with pruned networks, files, and models that are refused."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from diffnag.errors import UserError
from diffnag.networks.classifier_file import export_onnx, load_model, save_model
from diffnag.networks.elastic import Adaptation, adapt
from diffnag.networks.untrained import untrained
from diffnag.protocols import SearchSpace
from diffnag.search_spaces.own_model import units
from diffnag.search_spaces.own_model.model import OwnModel
from diffnag.search_spaces.own_model.network import Elastic, Part, extract
from diffnag.search_spaces.own_model.space import OwnModelSpace
from diffnag.spaces.counting import measured_size
from diffnag.spaces.loading import load_space
from diffnag.testing import SearchSpaceContract, draws
from tests import own_models
from tests.own_models import space_of

MODELS = ("resnet", "small_v2", "small_v3", "small_efficientnet")
TINY = "tests.own_models:tiny"


@pytest.fixture(name="spaces", scope="module")
def _spaces() -> dict[str, OwnModelSpace]:
    return {name: space_of(name) for name in MODELS}


def shared(space: OwnModelSpace, num_classes: int = 3) -> Elastic:
    """The shared network with the weights of one model and a random classifier."""
    torch.manual_seed(1)
    return space._with(space._model.fresh(), nn.Linear(space._model.classifier.in_features, num_classes))


def images_of(space: OwnModelSpace, count: int = 2, side: int | None = None) -> Tensor:
    side = side or space.resolution(space.largest)
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))


class Tiny(OwnModelSpace):
    def __init__(self) -> None:
        super().__init__(OwnModel(TINY))


class TestContract(SearchSpaceContract):
    @pytest.fixture
    def space(self) -> SearchSpace:
        return Tiny()


class TestUnits:
    """What can be removed of the networks, by counting their layers."""

    @pytest.mark.parametrize(
        ("name", "groups", "blocks", "nodes"),
        [
            ("resnet", 8 + 4, 5, 1 + 1 + 8),  # the middle of 8 blocks, and the sums of 4 stages, which are one unit
            ("small_v2", 1 + 16 + 7 + 1, 10, 1 + units.MOST),  # stem, middle of 16 blocks, outputs of 7 stages, last convolution
            ("small_v3", 1 + 10 + 9 + 5 + 2, 6, 16),  # stem, middles, squeezed channels, outputs of stages, two last layers
            ("small_efficientnet", 1 + 15 + 16 + 7 + 1, 9, 1 + units.MOST),
        ],
    )
    def test_groups_and_blocks(self, name: str, groups: int, blocks: int, nodes: int, spaces: dict[str, OwnModelSpace]) -> None:
        space = spaces[name]
        network = space._network
        assert (len(network.groups), len(network.blocks), space.nodes) == (groups, blocks, nodes)
        found = [number for unit in space._units for number in unit.groups]
        assert sorted(found) == list(range(groups)), "every group is in one unit"
        assert sorted(number for unit in space._units for number in unit.blocks) == list(range(blocks))
        assert [unit.begin for unit in space._units[1:]] == sorted(unit.begin for unit in space._units[1:])

    def test_units_of_a_resnet(self, spaces: dict[str, OwnModelSpace]) -> None:
        space = spaces["resnet"]
        assert space.names == (
            "resolution", "trunk", "layers.0", "layers.1", "layers.2.conv1", "layers.3", "layers.4.conv1", "layers.5", "layers.6.conv1", "layers.7"
        )  # fmt: skip
        assert space.operators == ("32px", "40px", "48px", "56px", "64px", "1/4", "2/4", "3/4", "4/4", "absent")
        assert space.parts == (0, 1, 2, 2, 3, 3, 4, 4, 5, 5)
        assert space.parameters["trunk"] == ("2", "3", "4") and space.parameters["layers.0"] == ("1", "2", "3", "4", "x")
        assert space.parameters["layers.2.conv1"] == ("1", "2", "3", "4")
        assert space.to_str(space.largest) == "64:4_4_4_4_4_4_4_4_4" and space.to_str(space.smallest) == "32:2_x_x_1_x_1_x_1_x"
        assert space.mean == (0.5, 0.5, 0.5) and space.std == (0.25, 0.25, 0.25) and space.side == 64
        assert space.notes == (
            "tests.own_models:resnet: 12 groups of channels and 5 residual blocks can be removed, in 9 choices; its last layer fc of 10 "
            "classes is replaced by one for your classes",
        )

    def test_squeezed_channels_go_with_their_block(self, spaces: dict[str, OwnModelSpace]) -> None:
        space = spaces["small_v3"]
        for unit in space._units:
            layers = {layer for number in unit.groups for layer in space._network.groups[number].layers}
            assert not any("reduce" in layer for layer in layers) or any(layer.endswith(".conv.0") or ".0.0" in layer for layer in layers)

    def test_concatenated_and_flattened_channels(self) -> None:
        space = load_space("own-model:tests.own_models:Concatenated")
        assert isinstance(space, OwnModelSpace)
        assert space.operators[0] == "16px" and space.operators[1] == "1/4", "the linear layer takes maps of one size"
        network = shared(space)
        widths = {tuple(sorted(group.layers)): group.channels for group in network.groups}
        assert widths[("body.hidden", "body.norm", "body.one")] == 4 and widths[("body.hidden", "body.norm", "body.two")] == 8
        images = images_of(space)
        half = network.without(frozenset())
        part = Part((2, 2, 16))
        found = extract(network, part)
        assert found.body.norm.num_features == 4 and found.body.hidden.in_features == 4 * 64
        # by hand: channels 0 and 1 of each convolution, which are maps 0, 1, 4 and 5
        maps = torch.cat([half.one(images)[:, :2], half.two(images)[:, :2]], 1)
        norm, kept = half.norm, torch.tensor([0, 1, 4, 5])
        maps = nn.functional.batch_norm(maps, norm.running_mean[kept], norm.running_var[kept], norm.weight[kept], norm.bias[kept], eps=norm.eps)
        weight = half.hidden.weight.view(16, 12, 64)[:, kept].flatten(1)
        expected = network.classifier(nn.functional.linear(maps.relu().flatten(1), weight, half.hidden.bias).relu())
        assert torch.allclose(found(images), expected, atol=1e-5) and torch.allclose(network(images, part), expected, atol=1e-5)


class TestNetworks:
    @pytest.mark.parametrize("name", MODELS)
    def test_a_part_of_the_shared_weights_is_the_network_that_torch_pruning_leaves(self, name: str, spaces: dict[str, OwnModelSpace]) -> None:
        from torch_pruning.dependency import DependencyGraph

        space = spaces[name]
        network, images = shared(space), images_of(space)
        for arch in (space.smallest, *draws(space, 2)):
            part = space.member(arch)
            pruned = extract(network, Part(network.whole.kept, part.absent))
            layers = dict(pruned.named_modules())
            graph = DependencyGraph().build_dependency(pruned, images, verbose=False)
            for group, kept in zip(network.groups, part.kept, strict=True):
                roots = [place for place in group.places if place.side == "out" and isinstance(layers.get(place.layer), nn.Conv2d | nn.Linear)]
                if roots and kept < group.channels:  # a group of an absent block has no layer
                    layer = layers[roots[0].layer]
                    fn = graph.get_pruner_of_module(layer).prune_out_channels
                    graph.get_pruning_group(layer, fn, list(range(kept, group.channels))).prune()
            expected = pruned.eval()(images)
            assert torch.allclose(network(images, part), expected, atol=1e-4) and expected.std() > 1e-3
            assert torch.allclose(space.inherit(network, arch)(images), expected, atol=1e-4)
            assert space.size(arch, num_classes=3).params == sum(parameter.numel() for parameter in pruned.parameters())

    @pytest.mark.parametrize("name", MODELS)
    def test_sizes_are_those_of_the_built_networks(self, name: str, spaces: dict[str, OwnModelSpace]) -> None:
        space = spaces[name]
        for arch in (space.smallest, space.largest, *draws(space, 3)):
            built = space.build(arch, num_classes=7)
            assert space.size(arch, num_classes=7) == measured_size(built, image_size=space.resolution(arch))

    def test_the_size_of_a_resnet_by_hand(self, spaces: dict[str, OwnModelSpace]) -> None:
        space = spaces["resnet"]
        model = own_models.ResNet(8, num_classes=3)
        assert space.size(space.largest, num_classes=3) == measured_size(model, image_size=64)
        # trunk 4, 8, 16, 32 of 8, 16, 32, 64; first blocks of the stages but the first: middle 4, 8, 16, which are quarters of 16, 32, 64
        small = 3 * 4 * 49 + 2 * 4 + (32 + 1) * 3
        for c_in, middle, c_out in ((4, 4, 8), (8, 8, 16), (16, 16, 32)):
            small += 9 * (c_in + c_out) * middle + c_in * c_out + 2 * (middle + 2 * c_out)
        assert space.size(space.smallest, num_classes=3).params == small

    def test_absent_blocks_hand_on_their_input(self) -> None:
        space = space_of("tiny")
        network, images = shared(space), images_of(space)
        assert len(network.blocks) == 2
        model = own_models.tiny()
        model.fc = nn.Linear(16, 3)
        model.load_state_dict({**network.body.state_dict(), **{f"fc.{name}": tensor for name, tensor in network.classifier.state_dict().items()}})
        model.eval()
        assert torch.allclose(network(images), model(images), atol=1e-5)
        for absent in ({0}, {1}, {0, 1}):
            for number, block in enumerate(own_models.tiny().layers[:2]):
                model.layers[number] = nn.Identity() if number in absent else block
            model.load_state_dict(network.body.state_dict(), strict=False)
            assert torch.allclose(network(images, Part(network.whole.kept, frozenset(absent))), model.eval()(images), atol=1e-5)

    @pytest.mark.parametrize("name", MODELS)
    def test_sorting_channels_changes_no_output_and_puts_the_important_first(self, name: str, spaces: dict[str, OwnModelSpace]) -> None:
        space = spaces[name]
        network, images = shared(space), images_of(space)
        with torch.no_grad():
            before = network(images)
            reader = network.get_submodule("classifier")
            given: list[Tensor] = []
            reader.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
            space.sort_channels(network, images)
            assert torch.allclose(network(images), before, atol=1e-4) and before.std() > 1e-3
        if name != "resnet":  # there the channels are read by other layers too
            importance = given[-1].abs().mean(0) * reader.weight.abs().sum(0)
            assert (importance.diff() <= 1e-6).all()

    def test_parts_learn(self) -> None:
        space = space_of("tiny")
        network = shared(space)
        labels = torch.arange(24) % 3
        images = images_of(space, 24) + 2 * labels[:, None, None, None]
        before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        shares = list(adapt(network, space, images, labels, Adaptation(epochs=2, batch_size=8, flip=False, shift=0), seed=0))
        assert shares[-1] == 1.0
        for name, parameter in network.named_parameters():
            assert not parameter.equal(before[name]), name
        for name, buffer in network.named_buffers():
            assert buffer.equal(before[name]) or name.endswith("num_batches_tracked"), name

    def test_a_fresh_network_has_fresh_weights(self) -> None:
        space = space_of("tiny")
        torch.manual_seed(0)
        one, other = (space.build(space.largest, num_classes=3) for _ in range(2))
        assert not one.body.conv1.weight.equal(other.body.conv1.weight)
        with pytest.raises(UserError, match="parts of one network: channels must be 1, not 8"):
            space.build(space.largest, channels=8, num_classes=3)


@pytest.mark.slow
@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["small_v2", "small_v3", "small_efficientnet"])
def test_files_of_untrained_parts(name: str, spaces: dict[str, OwnModelSpace], tmp_path: Path) -> None:
    space, space_name = spaces[name], f"own-model:tests.own_models:{name}"
    (arch,) = draws(space, 1)
    model = untrained(space_name, space.to_str(arch), num_classes=3, image_size=None, seed=0)
    assert export_onnx(tmp_path / "model.onnx", model) < 1e-4
    save_model(tmp_path / "model.pt", model, about={})
    side = space.resolution(arch)
    images = torch.rand(2, 3, side, side)
    assert load_model(tmp_path / "model.pt", space=space_name)(images).equal(model(images))


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("missing", "is no function that makes a model, it is a NoneType"),
        ("NUMBER", "is no function that makes a model, it is a int"),
        ("needs_an_argument", "cannot be made without arguments: TypeError"),
        ("no_module", "must return a torch.nn.Module, it returned a str"),
        ("DependsOnItsInput", "torch.fx cannot trace model 'tests.own_models:DependsOnItsInput'"),
        ("LinearOnly", "has no group of channels and no residual block that can be removed"),
        ("States", "has no group of channels and no residual block that can be removed"),
        ("Probabilities", "must return what its last torch.nn.Linear returns"),
        ("Twice", "uses its layer conv more than once"),
        ("Tied", "uses the weights two.weight in more than one layer"),
        ("one_channel", r"does not take images \(b, 3, 224, 224\)"),
        ("oddly_configured", r"has input_size \(3, 16, 24\); accepted is a dictionary"),
    ],
)
def test_what_cannot_be_taken_is_said(name: str, fault: str) -> None:
    with pytest.raises(UserError, match=fault):
        load_space(f"own-model:tests.own_models:{name}")


def test_without_torch_pruning_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch_pruning.dependency", None)
    with pytest.raises(UserError, match=r"torch-pruning, which is not installed; pip install 'diffnag\[prune\]'"):
        space_of("tiny")
