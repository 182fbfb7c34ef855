"""The contract of search spaces."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
import torch

from diffnag.arch import ArchBatch, Packing
from diffnag.errors import UserError
from diffnag.protocols import HasRoles, Prunes, SearchSpace, ShipsWeights, TakesChannels, TakesTokens, WithoutNetworks
from diffnag.spaces.decoding import decode_all
from diffnag.spaces.roles import describe
from diffnag.testing.draws import draws


class SearchSpaceContract:
    """What every search space must do. Fixture: `space`."""

    def test_decode_inverts_encode(self, space: SearchSpace) -> None:
        for arch in draws(space, 100):
            V, E = space.encode(arch)
            assert V.shape == (space.nodes, len(space.operators)) and E.shape == (space.nodes, space.nodes)
            assert set(np.unique(V)) | set(np.unique(E)) <= {0, 1} and V.sum(1).max() == 1
            assert not np.tril(E).any(), "E must be upper triangular"
            assert space.decode(V, E) == (arch, None)

    def test_decode_says_why_a_graph_is_invalid(self, space: SearchSpace) -> None:
        V, E = space.encode(draws(space, 1)[0])
        for broken in (np.zeros_like(V), np.ones_like(V)):
            arch, reason = space.decode(broken, E)
            assert arch is None and reason

    def test_decode_takes_any_graph(self, space: SearchSpace) -> None:
        x = torch.randn(200, Packing.of(space).size, generator=torch.Generator().manual_seed(0))
        for V, E in zip(*Packing.of(space).quantise(x, "argmax"), strict=True):
            arch, reason = space.decode(V, E)
            assert (arch is None) == bool(reason), "either an architecture or a reason"
            if arch is not None and isinstance(space, Prunes):  # other graphs are read as this one, but it itself as it is
                assert space.decode(*space.encode(arch)) == (arch, None) and space.needs_no_pruning(*space.encode(arch))
            elif arch is not None:
                assert all(map(np.array_equal, space.encode(arch), (V, E)))

    def test_decoding_in_batches_is_decoding_one_by_one(self, space: SearchSpace) -> None:
        """Valid graphs, the same with one entry changed anywhere, and graphs of noise."""
        packing, rng = Packing.of(space), np.random.default_rng(0)
        valid = [np.stack(part).astype(np.uint8) for part in zip(*[space.encode(arch) for arch in draws(space, 30)], strict=True)]
        edited = [part.repeat(10, axis=0) for part in valid]
        for k in range(len(edited[0])):
            changed = edited[k % 2][k]
            changed[tuple(rng.integers(changed.shape))] ^= 1
        noise = torch.randn(60, packing.size, generator=torch.Generator().manual_seed(0))
        near = packing.pack(*(torch.from_numpy(part).float() for part in valid)).repeat(2, 1) + 0.6 * noise
        drawn = [packing.quantise(x, rule) for x in (near, noise) for rule in ("argmax", "threshold")]
        for V, E in (valid, edited, *drawn):
            for kind in (np.uint8, np.float32):
                assert decode_all(space, V.astype(kind), E.astype(kind)) == [space.decode(v, e) for v, e in zip(V, E, strict=True)]

    def test_pictures_can_be_drawn(self, space: SearchSpace) -> None:
        from diffnag.drawing.picture import arrangement_of, picture_of

        for arch in draws(space, 3):
            picture = picture_of(arch, space)
            assert len(picture.panels) in (0, len(picture.texts))
            assert len(arrangement_of(arch, space).boxes) == len(picture.texts) > 0

    def test_strings_round_trip(self, space: SearchSpace) -> None:
        archs = draws(space, 100)
        assert [space.from_str(space.to_str(arch)) for arch in archs] == archs
        assert len({space.to_str(arch) for arch in archs}) == len(set(archs))
        with pytest.raises(UserError):
            space.from_str("no architecture")

    def test_canonical_is_stable(self, space: SearchSpace) -> None:
        other = type(space)()
        for arch in draws(space, 100):
            assert space.canonical(arch) == space.canonical(arch) == other.canonical(space.from_str(space.to_str(arch)))

    def test_random_is_seeded(self, space: SearchSpace) -> None:
        assert draws(space, 20, seed=1) == draws(space, 20, seed=1) != draws(space, 20, seed=2)

    def test_neighbours(self, space: SearchSpace) -> None:
        for arch in draws(space, 5):
            neighbours = space.neighbours(arch)
            assert neighbours and neighbours == space.neighbours(arch), "the order is fixed"
            assert len(set(neighbours)) == len(neighbours) and arch not in neighbours
            for neighbour in neighbours:
                assert space.decode(*space.encode(neighbour)) == (neighbour, None)
                assert arch in space.neighbours(neighbour), "symmetric"

    def test_parameters_round_trip(self, space: SearchSpace) -> None:
        for arch in draws(space, 100):
            parameters = space.to_parameters(arch)
            assert list(parameters) == list(space.parameters)
            assert all(choice in space.parameters[name] for name, choice in parameters.items())
            assert space.from_parameters(parameters) == arch

    def test_constant_entries_are_constant(self, space: SearchSpace) -> None:
        batch = ArchBatch.of(draws(space, 200), space)
        for matrices, constant in zip((batch.V, batch.E), space.constant, strict=True):
            assert constant.dtype == bool and constant.shape == matrices.shape[1:]
            assert (matrices == matrices[0]).all(0).numpy()[constant].all()

    def test_attention(self, space: SearchSpace) -> None:
        assert space.attention in ("ancestors", "causal", "full")
        assert space.attention != "ancestors" or space.constant[1][np.triu_indices(space.nodes, 1)].all(), "E must be constant"

    def test_roles(self, space: SearchSpace) -> None:
        """Declared roles are checked; the roles of a space that declares none are shown as the reason of a skip."""
        rows = describe(space)  # raises UserError for a wrong declaration
        assert [row.operator for row in rows] == list(space.operators)
        if not isinstance(space, HasRoles):
            read = "; ".join(f"{row.operator}: {row.roles}" for row in rows)
            pytest.skip(f"it declares no roles, so they are read off the operators' names ({read})")

    def test_enumerate(self, space: SearchSpace) -> None:
        if (every := space.enumerate()) is None:
            pytest.skip("the space is not enumerated")
        archs = list(islice(every, 200))
        assert len(set(archs)) == len(archs)
        assert all(space.decode(*space.encode(arch)) == (arch, None) for arch in archs)

    def test_build_gives_logits_and_size_its_parameters(self, space: SearchSpace) -> None:
        """A space that `TakesTokens` gets tokens, and its full networks are counted without memory for their weights.

        One `WithoutNetworks` refuses both.
        """
        classes, side = next(iter(space.datasets.values()), (10, 32))
        if isinstance(space, WithoutNetworks):
            for refused in (space.build, space.size):
                with pytest.raises(UserError):
                    refused(draws(space, 1)[0], num_classes=classes, **({"image_size": side} if refused == space.size else {}))
            return
        tokens = isinstance(space, TakesTokens)
        generator = torch.Generator().manual_seed(0)
        given = torch.randint(classes, (2, 7), generator=generator) if tokens else torch.randn(2, 3, side, side, generator=generator)
        for arch in draws(space, 3):
            size = space.size(arch, num_classes=classes, image_size=side)
            with torch.device("meta" if tokens else "cpu"):
                network = space.build(arch, num_classes=classes)
            assert sum(p.numel() for p in network.parameters() if p.requires_grad) == size.params
            assert size.flops > 0
            channels, cells = space.skeletons[0]
            small = space.build(arch, channels=channels, cells=cells, num_classes=classes)
            logits = small(given)
            assert logits.shape == ((2, 7, classes) if tokens else (2, classes)) and logits.isfinite().all()

    def test_networks_start_from_shipped_weights(self, space: SearchSpace) -> None:
        """A space that `ShipsWeights` gives the same ones to all networks of a cell, whatever their stem; those of the classifier stay."""
        if not isinstance(space, ShipsWeights):
            pytest.skip("it ships no weights")
        assert space.shipped is not None
        channels, cells = space.shipped
        images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        for arch in draws(space, 3):
            four, wide, five = (
                space.build(arch, channels=channels, cells=cells, num_classes=classes, stem_stride=stride)
                for classes, stride in ((4, 1), (4, 2), (5, 1))
            )
            before = {name: tensor.clone() for name, tensor in four.state_dict().items()}
            for network in (four, wide, five):
                space.start(network)
                assert network.eval()(images).isfinite().all()
            other, larger = wide.state_dict(), five.state_dict()
            for name, tensor in four.state_dict().items():
                is_classifier = tensor.shape != larger[name].shape
                assert torch.equal(tensor, before[name] if is_classifier else other[name]), name

    def test_networks_take_other_channels(self, space: SearchSpace) -> None:
        """A space that `TakesChannels` keeps its architectures, and what it builds and counts is for these channels."""
        if not isinstance(space, TakesChannels):
            pytest.skip("its networks take three channels")
        other, images = space.with_channels(5), torch.randn(2, 5, 32, 32, generator=torch.Generator().manual_seed(0))
        for arch in draws(space, 2):
            assert other.from_str(space.to_str(arch)) == arch and other.member(arch) == space.member(arch)
            network = other.build(arch, num_classes=4)
            assert network(images).shape == (2, 4)
            assert sum(p.numel() for p in network.parameters() if p.requires_grad) == other.size(arch, num_classes=4, image_size=32).params
