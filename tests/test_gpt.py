"""The spaces `gpt-s`, `gpt-m` and `gpt-l`: strings, wiring, and networks that take tokens."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from diffnag import export
from diffnag.arch import ArchBatch
from diffnag.command.running import run_command
from diffnag.datasets.tasks import Task
from diffnag.errors import UserError
from diffnag.networks.language_model import untrained_language_model
from diffnag.networks.untrained import untrained
from diffnag.oracles.checked import load_oracle
from diffnag.predictors.gaussian_process import GaussianProcessPredictor
from diffnag.predictors.proxies.predictor import NaswotPredictor
from diffnag.protocols import Predictor, SearchSpace, TakesTokens
from diffnag.search_spaces.gpt.network import GPT, Block, Shape, _rotated, _turn
from diffnag.search_spaces.gpt.space import GPTLarge, GPTMedium, GPTSmall, GPTSpace
from diffnag.search_spaces.nasbench201.space import NASBench201
from diffnag.testing import PredictorContract, SearchSpaceContract, draws
from tests.edited import Change, edited

SPACE = GPTSmall()
SPACES = (SPACE, GPTMedium(), GPTLarge())
MIXED = "384-nobias:8-4_4-2_12-3_4-2_8-2_8-3_8-4_12-2_4-4_12-4_4-3"
LARGEST = "768-bias:" + "_".join(["12-4"] * 12)


@pytest.fixture(name="space", params=SPACES, ids=lambda space: space.name)
def _space(request: pytest.FixtureRequest) -> SearchSpace:
    return request.param


class TestContract(SearchSpaceContract):
    @pytest.fixture(
        params=[SPACE, *(pytest.param(space, marks=[pytest.mark.slow, pytest.mark.timeout(300)]) for space in SPACES[1:])],
        ids=lambda space: space.name,
    )
    def space(self, request: pytest.FixtureRequest) -> SearchSpace:
        return request.param


class TestGaussianProcess(PredictorContract):
    dataset = "openwebtext"

    @pytest.fixture
    def space(self) -> SearchSpace:
        return SPACE

    @pytest.fixture
    def predictor_class(self) -> type[Predictor]:
        return GaussianProcessPredictor


class TestStrings:
    def test_nodes(self) -> None:
        arch = SPACE.from_str(MIXED)
        names = [SPACE.operators[op] for op in arch.ops]
        assert names[:4] == ["width384_nobias", "heads8_mlp4", "heads4_mlp2", "heads12_mlp3"] and names[11:] == ["heads4_mlp3", "absent"]
        parameters = SPACE.to_parameters(arch)
        assert (parameters["width"], parameters["bias"], parameters["depth"], parameters["layer 3"]) == ("384", "nobias", "11", "12-3")

    @pytest.mark.parametrize(
        ("text", "rule"),
        [
            ("", "it begins with ''"),
            (MIXED.replace("384", "385"), "it begins with '385-nobias'"),
            (MIXED.replace("nobias", "biases"), "it begins with '384-biases'"),
            (MIXED.replace("12-3", "16-3"), "layer 3 is '16-3'"),
            (MIXED + "_", "layer 12 is ''"),
            (MIXED.replace("_8-2_8-3", ""), "it has 9 layers"),
            (MIXED + "_8-2_8-3", "it has 13 layers"),
            ("|nor_conv_3x3~0|+|none~0|none~1|+|none~0|none~1|none~2|", "it begins with"),
        ],
    )
    def test_other_text_is_refused_with_the_broken_rule(self, text: str, rule: str) -> None:
        with pytest.raises(UserError, match=f"is no gpt-s string: {rule}.*; expected a width and biases .192-bias, .*10 to 12 layers"):
            SPACE.from_str(text)

    def test_a_string_belongs_to_one_scale(self) -> None:
        with pytest.raises(UserError, match="is no gpt-m string: it begins with '384-nobias'"):
            GPTMedium().from_str(MIXED)


class TestMatrices:
    def test_wiring_is_a_chain_of_the_layers_that_are_there(self, space: GPTSpace) -> None:
        for arch in draws(space, 20):
            depth = sum(op != space.operators.index("absent") for op in arch.ops[1:])
            assert arch.edges == tuple((i, i + 1) for i in range(depth))

    def test_constant_entries(self, space: GPTSpace) -> None:
        """Constant are exactly the entries that never vary over many draws; the two last edges vary."""
        batch = ArchBatch.of(draws(space, 2_000), space)
        for part, constant in zip((batch.V, batch.E), space.constant, strict=True):
            assert ((part.amin(0) == part.amax(0)).numpy() == constant).all()
        assert np.argwhere(~space.constant[1]).tolist() == [[space.nodes - 3, space.nodes - 2], [space.nodes - 2, space.nodes - 1]]
        assert batch.mask.all()

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ([("V", 3, slice(None), 0)], "node 3 has 0 operators"),
            ([("V", 0, 3, 0), ("V", 0, 7, 1)], "node 0 is heads4_mlp3"),
            ([("V", 1, slice(None), 0), ("V", 1, 0, 1)], "node 1 is width192_bias"),
            ([("V", 10, slice(None), 0), ("V", 10, 15, 1)], "node 10 is absent, but there are at least 10 layers"),
            ([("V", 11, slice(None), 0), ("V", 11, 15, 1), ("V", 12, 15, 0), ("V", 12, 6, 1)], "node 12 is a layer, but node 11 before it is absent"),
            ([("E", 10, 11, 0)], "edge 10->11 is missing with these layers"),
            ([("E", 11, 12, 1)], "edge 11->12 is not in the space with these layers"),
        ],
    )
    def test_reasons(self, changes: list[Change], reason: str) -> None:
        assert SPACE.decode(*edited(SPACE, MIXED, changes)) == (None, reason)


class TestNeighboursAndDraws:
    def test_number_of_neighbours(self, space: GPTSpace) -> None:
        """Two widths, biases or none, 8 other kinds of each layer, one layer less, nine with one more."""
        for arch in draws(space, 10):
            depth = len(space.model(arch).layers)
            shallowest, deepest = space.scale.depths[0], space.scale.depths[-1]
            assert len(space.neighbours(arch)) == 3 + 8 * depth + (depth > shallowest) + 9 * (depth < deepest)

    def test_random_is_uniform_over_each_choice(self) -> None:
        models = [SPACE.model(arch) for arch in draws(SPACE, 3_000)]
        for counts, choices in (
            (Counter(model.embedding for model in models), 6),
            (Counter(len(model.layers) for model in models), 3),
            (Counter(model.layers[-1] for model in models), 9),
        ):
            assert len(counts) == choices
            assert all(abs(count - 3_000 / choices) < 5 * (3_000 / choices) ** 0.5 for count in counts.values())  # five standard deviations

    def test_choices_for_layers_beyond_the_depth_do_not_matter(self) -> None:
        parameters = SPACE.to_parameters(SPACE.from_str(MIXED))
        assert SPACE.from_parameters({**parameters, "layer 12": "12-4"}) == SPACE.from_str(MIXED)


class TestNetwork:
    def test_parameters_of_the_largest_are_counted(self) -> None:
        """Those of GPT-2 small, 124 million, without learned positions."""
        network = SPACE.build(SPACE.from_str(LARGEST), num_classes=50_254)
        counted = sum(parameter.numel() for parameter in network.parameters())
        assert counted == SPACE.size(SPACE.from_str(LARGEST), num_classes=50_254).params == 123_651_072

    @pytest.mark.parametrize(("channels", "context"), [(16, 40), (8, 1), (32, 9)])
    @pytest.mark.parametrize("biases", ["bias", "nobias"])
    def test_size_equals_the_built_network(self, channels: int, context: int, biases: str) -> None:
        """torch's counter counts twice the multiply-adds; it sees the products of attention only in its plain form."""
        arch = SPACE.from_str(MIXED.replace("nobias", biases))
        network = SPACE.build(arch, channels=channels, num_classes=101)
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            network(torch.zeros(1, context, dtype=torch.int64))
        size = SPACE.size(arch, channels=channels, num_classes=101, image_size=context)
        assert size.flops == counter.get_total_flops() / 2
        assert size.params == sum(parameter.numel() for parameter in network.parameters())

    def test_later_tokens_change_no_earlier_logit(self) -> None:
        torch.manual_seed(0)
        network = SPACE.build(SPACE.from_str(MIXED), channels=8, num_classes=50).eval()
        tokens = torch.randint(50, (2, 12))
        other = tokens.clone()
        other[:, 7] = (other[:, 7] + 1) % 50
        before, after = network(tokens), network(other)
        torch.testing.assert_close(before[:, :7], after[:, :7])
        assert ((before[:, 7:] - after[:, 7:]).abs().amax((0, 2)) > 1e-4).all(), "every later place sees it"
        torch.testing.assert_close(network(tokens[:, :5]), before[:, :5])

    def test_block_by_hand(self) -> None:
        """Attention and perceptron read the same x, each behind a normalisation of its own; head by head, with a causal mask."""
        torch.manual_seed(0)
        block, x = Block(12, 3, 2, 8, bias=True), torch.randn(2, 5, 12)
        turn = _turn(5, 4, like=x)
        q, k, v = block.attention.project_in(block.norm(x)).chunk(3, dim=2)
        mask = torch.full((5, 5), -torch.inf).triu(1)
        heads = []
        for h in range(3):
            mine = slice(8 * h, 8 * h + 8)
            scores = turned(q[..., mine]) @ turned(k[..., mine]).transpose(1, 2) / 8**0.5
            heads.append((scores + mask).softmax(2) @ v[..., mine])
        first, _, second = block.mlp
        mlp = second(functional.gelu(first(block.norm_mlp(x))))
        torch.testing.assert_close(block(x, turn), x + block.attention.project_out(torch.cat(heads, dim=2)) + mlp)

    def test_turned_products_depend_on_the_distance_alone(self) -> None:
        """Rotary positions (Su et al., 2021): the product of a turned query and a turned key is a function of how far apart they are."""
        q, k = torch.randn(2, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        turn = _turn(20, 8, like=q)
        queries, keys = (_rotated(each.expand(1, 1, 20, 8), turn)[0, 0] for each in (q, k))
        products = queries @ keys.T
        for apart in (0, 1, 5):
            assert products.diagonal(apart).std() < 1e-12
        assert products.std() > 0.1

    def test_the_output_layer_shares_the_embeddings_weights_and_every_weight_is_used(self) -> None:
        torch.manual_seed(0)
        network = GPT(Shape(12, True, ((2, 2), (3, 4)), 4, 30))
        assert not any(isinstance(module, nn.Linear) and 30 in module.weight.shape for module in network.modules())
        network(torch.randint(30, (4, 9))).square().sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.abs().sum() > 0 for p in network.parameters())

    def test_an_architecture_is_a_whole_network(self) -> None:
        arch = SPACE.from_str(MIXED)
        for asked in (SPACE.build, SPACE.size):
            with pytest.raises(UserError, match="of gpt-s is a whole network: cells must be 1, not 2"):
                asked(arch, cells=2, num_classes=10)  # type: ignore[operator]
            with pytest.raises(UserError, match="stem_stride must be 1, not 2"):
                asked(arch, stem_stride=2, num_classes=10)  # type: ignore[operator]
            with pytest.raises(UserError, match="the size of a head, .* a multiple of 4, not 6"):
                asked(arch, channels=6, num_classes=10)  # type: ignore[operator]


def turned(x: Tensor) -> Tensor:
    """`x (b, t, 8)` with pairs (0, 2) and (1, 3) turned by the angles t and t / 100."""
    turned = x.clone()
    for pair, speed in ((0, 1.0), (1, 0.01)):
        angle = torch.arange(x.shape[1]) * speed
        one, other = x[..., pair], x[..., pair + 2]
        turned[..., pair], turned[..., pair + 2] = one * angle.cos() - other * angle.sin(), other * angle.cos() + one * angle.sin()
    return turned


class TestTokens:
    @pytest.mark.slow
    @pytest.mark.timeout(300)
    def test_onnx_takes_texts_of_any_shape(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        import onnxruntime

        path = tmp_path / "gpt.onnx"
        exported(monkeypatch, "--out", str(path), "--seed", "2")
        assert "its logits differ from torch's by at most" in capsys.readouterr().out
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        assert session.get_modelmeta().custom_metadata_map == {"space": "gpt-s", "arch": MIXED}
        network = untrained_language_model("gpt-s", MIXED, vocabulary=50, context=16, channels=8, seed=2).network
        for shape in ((1, 1), (5, 3), (2, 70)):
            tokens = torch.randint(50, shape)
            (logits,) = session.run(["logits"], {"tokens": tokens.numpy()})
            np.testing.assert_allclose(logits, network(tokens).detach().numpy(), atol=1e-4)

    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            (("--out", "gpt.pt"), "format 'pt' is for networks that take images, and those of space 'gpt-s' take tokens; accepted is onnx"),
            (("--out", "gpt.onnx", "--cells", "3"), "cells must be 1, not 3"),
            (("--out", "gpt.onnx", "--channels", "1000"), "parameters; up to 500,000,000 are accepted"),
            (("--out", "gpt.onnx", "--num-classes", "2000000"), "num_classes is 2000000; 1 to 1,000,000 are accepted"),
        ],
    )
    def test_export_refuses(
        self, arguments: tuple[str, ...], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.chdir(tmp_path)
        with pytest.raises(SystemExit) as stop:
            exported(monkeypatch, *arguments)
        assert stop.value.code == 2 and sentence in capsys.readouterr().err and not list(tmp_path.iterdir())

    def test_what_needs_images_refuses(self) -> None:
        assert all(isinstance(space, TakesTokens) for space in SPACES)
        take = "is for networks that take images, and those of space 'gpt-s' take tokens"
        for name in ("naswot", "synflow", "zen", "training"):
            with pytest.raises(UserError, match=f"oracle '{name}' {take}"):
                load_oracle(name, space=SPACE)
        with pytest.raises(UserError, match=f"naswot, synflow, zen. {take}"):
            NaswotPredictor().setup(space=SPACE, task=Task("openwebtext"), seed=0)
        with pytest.raises(UserError, match=f"a classifier {take}"):
            untrained("gpt-s", MIXED, num_classes=10, image_size=32)
        with pytest.raises(UserError, match="the networks of space 'nasbench201' take images, not tokens"):
            untrained_language_model("nasbench201", NASBench201.resnet_like, vocabulary=10, context=10)


def exported(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    given = (MIXED, "--space", "gpt-s", "--num-classes", "50", "--input-size", "16", "--channels", "8")
    monkeypatch.setattr(sys, "argv", ["export", *given, *arguments])
    run_command(export.main)
