"""Roles of operators: what a space declares comes first, names count otherwise, and both lead to the same features."""

from __future__ import annotations

from collections.abc import Mapping, Set

import numpy as np
import pytest

from diffnag import Arch, CategoricalSpace, UserError, load_space
from diffnag.plugins import names
from diffnag.predictors.path_features import PathFeatures
from diffnag.protocols import HasRoles, Role
from diffnag.spaces.roles import describe, roles_by_name, roles_of
from diffnag.testing import draws

NAMES = ("input", "identity", "conv3x3", "maxpool")


class Chain(CategoricalSpace):
    """Three layers one behind the other; without a declaration."""

    name, nodes, operators = "chain", 4, NAMES
    parameters: Mapping[str, tuple[str, ...]] = {f"layer {k}": NAMES[1:] for k in range(3)}

    def from_parameters(self, parameters: Mapping[str, str]) -> Arch:
        return Arch((0, *(NAMES.index(choice) for choice in parameters.values())), ((0, 1), (1, 2), (2, 3)))

    def to_parameters(self, arch: Arch) -> dict[str, str]:
        return dict(zip(self.parameters, (NAMES[op] for op in arch.ops[1:]), strict=True))


class Strided(Chain):
    """`identity` is no identity here, and the space says so."""

    roles: Mapping[str, Set[Role]] = {
        "maxpool": {"pools"}, "input": {"input"}, "identity": {"shrinks", "layer"}, "conv3x3": {"layer", "spatial"},
    }  # fmt: skip


@pytest.mark.parametrize("name", names("space"))
def test_every_space_of_the_package_declares_what_its_names_show(name: str) -> None:
    """The names of network-zoo, such as `patch4` and `first-half`, show less than is declared."""
    space = load_space(name)
    assert isinstance(space, HasRoles)
    assert roles_of(space) == roles_by_name(space.operators) or name == "network-zoo"
    assert list(roles_of(space)) == list(space.operators), "in the order of the columns of V"


@pytest.mark.parametrize(
    ("name", "roles"),
    [
        ("absent", {"absent"}), ("Input", {"input"}), ("output", {"output"}), ("none", {"blocks"}), ("zeroize", {"blocks"}),
        ("skip_connect", {"passes"}), ("Identity", {"passes"}), ("maxpool3x3", {"pools"}), ("conv1x1", {"layer"}), ("gelu", {"layer"}),
        ("mbconv6_7x7", {"layer", "spatial"}), ("conv3x3_stride2", {"layer", "spatial", "shrinks"}),
        ("double_and_halve", {"layer", "widens", "shrinks"}), ("reduce_pool", {"pools", "shrinks"}),
    ],
)  # fmt: skip
def test_names_show_roles(name: str, roles: Set[Role]) -> None:
    assert roles_by_name([name]) == {name: roles}


def test_the_table_of_roles() -> None:
    assert [tuple(row) for row in describe(Chain())] == [
        ("input", "input", "name"), ("identity", "passes", "name"), ("conv3x3", "layer, spatial", "name"), ("maxpool", "pools", "name"),
    ]  # fmt: skip
    assert [tuple(row) for row in describe(Strided())] == [
        ("input", "input", "declared"), ("identity", "layer, shrinks", "declared"), ("conv3x3", "layer, spatial", "declared"),
        ("maxpool", "pools", "declared"),
    ]  # fmt: skip


def test_features_follow_the_declaration() -> None:
    first, second = (Chain().from_str(text) for text in ("identity,conv3x3,conv3x3", "conv3x3,conv3x3,identity"))
    by_name, declared = (np.concatenate(PathFeatures(space, plain=False)([first, second]), axis=1) for space in (Chain(), Strided()))
    assert (by_name[0] == by_name[1]).all(), "an identity leaves no trace, wherever it is"
    assert not np.allclose(declared[0], declared[1])


def test_features_refuse_a_wrong_declaration() -> None:
    class Wrong(Chain):
        roles: Mapping[str, Set[Role]] = {"input": {"input"}}

    with pytest.raises(UserError, match="space 'chain' declares wrong roles: operator 'identity' has no roles"):
        PathFeatures(Wrong())
    assert draws(Wrong(), 1), "the space is otherwise sound"
