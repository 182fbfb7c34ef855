"""Messages for search spaces that break their contract."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from diffnag.datasets.images import load_images
from diffnag.errors import UserError
from diffnag.oracles.training import TrainingOracle
from diffnag.plugins import names
from diffnag.spaces.loading import load_space
from diffnag.spaces.rules import broken_rule

SPACES = '''
import numpy as np
import torch

from diffnag import Arch, CategoricalSpace
from diffnag.protocols import Decoded, Picture, Size

class Pairs(CategoricalSpace):
    name, nodes, operators = "pairs", 3, ("input", "a", "b")
    parameters = {"first": ("a", "b"), "second": ("a", "b")}
    def from_parameters(self, parameters):
        return Arch((0, *(self.operators.index(choice) for choice in parameters.values())), [(0, 1), (1, 2)])
    def to_parameters(self, arch):
        return {"first": self.operators[arch.ops[1]], "second": self.operators[arch.ops[2]]}

class Bare:
    name, nodes = "bare", 2

class Wide(Pairs):
    def encode(self, arch):
        return arch.matrices(nodes=5, operators=3)

class Forgetful(Pairs):
    def to_str(self, arch):
        return "a,b"
    def random(self, rng):
        return self.from_parameters({"first": "b", "second": "b"})

class Restless(Pairs):
    drawn = 0
    def random(self, rng):
        self.drawn += 1
        return self.from_parameters({"first": "a", "second": "ab"[self.drawn % 2]})

class Failing(Pairs):
    def encode(self, arch):
        raise IndexError("off by one")

class Crooked(Pairs):
    attention = "sideways"

class Nameless(Pairs):
    name = None

class Counted(Pairs):
    operators = 3

class Roled(Pairs):
    roles = {"input": {"input"}, "a": {"passes"}, "b": {"layer", "spatial", "shrinks"}}

class Roleless(Pairs):
    roles = {"input": {"input"}, "a": {"passes"}}

class Spaced(Pairs):
    roles = "input passes layer"

class Worded(Pairs):
    roles = {"input": {"input"}, "a": "passes", "b": {"layer"}}

class Invented(Pairs):
    roles = {"input": {"input"}, "a": {"convolves"}, "b": {"layer"}}

class Torn(Pairs):
    roles = {"input": {"input"}, "a": {"passes", "layer"}, "b": {"layer"}}

class Changing(Pairs):
    roles = {"input": {"input"}, "a": {"passes", "shrinks"}, "b": {"layer"}}

class Stranger(Pairs):
    roles = {"input": {"input"}, "a": {"passes"}, "b": {"layer"}, "c": {"layer"}}

class Tuples(Pairs):
    def random(self, rng):
        return (0, 1, 2)

class Listed(Pairs):
    def canonical(self, arch):
        return list(arch.ops)

class Narcissus(Pairs):
    def neighbours(self, arch):
        return [arch]

class Stiff(Pairs):
    constant = (np.ones((3, 3), dtype=bool), np.ones((2, 2), dtype=bool))

class Painted(Pairs):
    def picture(self, arch):
        return "a - b"

class Slots:
    __slots__ = ()

class Elsewhere(Pairs):
    name = "../elsewhere"

class Nowhere(Pairs):
    nodes = 0

class Twice(Pairs):
    operators = ("input", "a", "a")

class Unmeasured(Pairs):
    datasets = {"photos": 10}

class Single(Pairs):
    skeletons = (16, 1)

class Choosy(Pairs):
    parameters = [("first", ("a", "b")), ("second", ("a", "b"))]

class Unseeded(Pairs):
    def random(self):
        return self.from_parameters({"first": "a", "second": "a"})

class Tensors(Pairs):
    def encode(self, arch):
        return tuple(map(torch.from_numpy, super().encode(arch)))

class Halves(Pairs):
    def encode(self, arch):
        V, E = super().encode(arch)
        return V / 2, E

class Both(Pairs):
    def encode(self, arch):
        V, E = super().encode(arch)
        return V, E + E.T

class Undecided(Pairs):
    def decode(self, V, E):
        return None

class Unchosen(Pairs):
    def to_parameters(self, arch):
        return {"first": self.operators[arch.ops[1]]}
    def decode(self, V, E):
        return Decoded(Arch(V.argmax(1), zip(*E.nonzero())), None)
    def from_str(self, text):
        return self.from_parameters({"first": text, "second": "b"})
    def random(self, rng):
        return self.from_parameters({"first": "a", "second": "b"})

class Unsteady(Pairs):
    def canonical(self, arch):
        self.asked = getattr(self, "asked", 0) + 1
        return str(self.asked)

class Circular(Pairs):
    def picture(self, arch):
        return Picture(("a", "b"), ((0, 1), (1, 0)))

class Frozen(Pairs):
    constant = (np.ones((3, 3), dtype=bool), np.ones((3, 3), dtype=bool))

class Wired(Pairs):
    attention = "ancestors"
    constant = (np.zeros((3, 3), dtype=bool), np.zeros((3, 3), dtype=bool))

class Blunt(Pairs):
    def from_str(self, text):
        first, second = text.split(",") if "," in text else {}[text]
        return self.from_parameters({"first": first, "second": second})

class Lenient(Pairs):
    def from_str(self, text):
        return super().from_str(text) if "," in text else None

class Speechless(Pairs):
    def decode(self, V, E):
        return super().decode(V, E)._replace(reason=None)

class Unbuilt(Pairs):
    def build(self, arch, *, channels=4, cells=1, num_classes, stem_stride=1):
        raise KeyError("stem")

class Nothing(Pairs):
    def size(self, arch, *, channels=4, cells=1, num_classes, image_size, stem_stride=1):
        return Size(1, 1)
    def build(self, arch, *, channels=4, cells=1, num_classes, stem_stride=1):
        return None

class Flat(Pairs):
    def build(self, arch, *, channels=4, cells=1, num_classes, stem_stride=1):
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(7, num_classes))

class Headless(Pairs):
    def build(self, arch, *, channels=4, cells=1, num_classes, stem_stride=1):
        return torch.nn.Flatten()

class Unsized(Headless):
    def size(self, arch, *, channels=4, cells=1, num_classes, image_size, stem_stride=1):
        return 12
'''


@pytest.fixture
def my_spaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module of spaces in the current folder."""
    (tmp_path / "my_spaces.py").write_text(SPACES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "my_spaces", raising=False)


@pytest.mark.parametrize("name", names("space"))
def test_the_spaces_of_the_package_keep_the_rules(name: str) -> None:
    assert broken_rule(load_space(name)) is None


@pytest.mark.parametrize(
    ("cls", "sentence"),
    [
        ("Slots", "lacks name, nodes, .*build; every space must offer name, nodes"),
        ("Bare", "lacks operators, attention, .*build; every space must offer name, nodes"),
        ("Nameless", "name must be a word of letters, digits, '.', '_' and '-'; it raised TypeError"),
        ("Elsewhere", "name must be a word of letters"),
        ("Nowhere", "nodes must be a whole number of at least 1"),
        ("Counted", "operators must be a tuple of names, each once"),
        ("Twice", "operators must be a tuple of names, each once"),
        ("Roleless", "roles must be declared for every operator, or not at all: operator 'b' has no roles; accepted is a set of words"),
        ("Spaced", "not at all: roles is a str; accepted is a mapping of each operator to a set of words"),
        ("Worded", "not at all: the roles of operator 'a' are a str; accepted is a set of words"),
        ("Invented", "operator 'a' has an unknown role 'convolves'; accepted are absent, input, .*, shrinks"),
        ("Torn", "operator 'a' has 2 of the roles absent, .*, layer; it must have exactly one"),
        ("Changing", "operator 'a' cannot be 'passes' and 'shrinks': 'shrinks' belongs to layer or pools"),
        ("Stranger", "roles names 'c', which is none of the operators"),
        ("Crooked", "attention must be one of 'ancestors', 'causal', 'full'"),
        ("Unmeasured", r"datasets must map names to \(classes, image side\)"),
        ("Single", r"skeletons must be one or more pairs \(channels, cells\)"),
        ("Choosy", "parameters must map names to choices"),
        ("Tuples", r"random\(rng\) must return an Arch drawn with the generator rng"),
        ("Unseeded", r"random\(rng\) must return an Arch .*; it raised TypeError: Unseeded.random\(\) takes 1 positional"),
        ("Restless", r"random\(rng\) must return the same"),
        ("Wide", r"encode must return arrays V \(3, 3\) and E \(3, 3\)$"),
        ("Failing", r"encode must return .*; it raised IndexError: off by one"),
        ("Tensors", "encode must return numpy arrays"),
        ("Halves", "the entries of V and E must be 0 or 1"),
        ("Both", "E must be upper triangular"),
        ("Undecided", r"decode must return Decoded\(arch, None\) for the matrices of encode\(arch\)"),
        ("Forgetful", "from_str must invert to_str"),
        ("Unchosen", "to_parameters must return one of the choices for each of parameters"),
        ("Listed", "canonical must return a str"),
        ("Unsteady", "canonical must return the same key each time"),
        ("Narcissus", "neighbours must return a list of other architectures, each once"),
        ("Painted", "picture must return a Picture with texts"),
        ("Circular", "picture must return a Picture with texts, edges between them without a cycle"),
        ("Stiff", r"constant must be bool arrays \(3, 3\) and \(3, 3\)"),
        ("Frozen", "constant must be True only for entries that are the same in all architectures"),
        ("Wired", "attention 'ancestors' is only for spaces with a constant E"),
        ("Blunt", "from_str must raise UserError for text that is no architecture; it raised KeyError"),
        ("Lenient", "from_str must raise UserError for text that is no architecture$"),
        ("Speechless", r"decode must return Decoded\(None, reason\) for matrices of no architecture"),
    ],
)
def test_a_space_that_breaks_its_contract_is_refused_with_the_rule(cls: str, sentence: str, my_spaces: None) -> None:
    assert load_space("my_spaces:Pairs").name == "pairs"
    with pytest.raises(UserError, match=sentence) as caught:
        load_space(f"my_spaces:{cls}")
    assert "\n" not in str(caught.value) and (cls in ("Bare", "Slots") or "breaks a rule: " in str(caught.value))


@pytest.mark.parametrize(
    ("cls", "sentence"),
    [
        ("Pairs", "the size of the network of b,b, 8 channels, 1 cells a stage, on images .*: Pairs must define build, which returns the network"),
        ("Unbuilt", "the size of the network of .* on images of 8 pixels a side cannot be computed: KeyError: 'stem'"),
        ("Nothing", "build of space 'pairs' must return a torch.nn.Module, it returned a NoneType"),
        ("Flat", "the size of the network of .* cannot be computed: mat1 and mat2 shapes cannot be multiplied"),
        ("Headless", r"space 'pairs' builds a network that returns \(2, 192\) for 2 images, not \(2, 10\)"),
        ("Unsized", "size of space 'pairs' must return a Size, it returned a int"),
    ],
)
def test_networks_that_cannot_be_trained_are_refused_before_the_first_training(cls: str, sentence: str, my_spaces: None) -> None:
    oracle = TrainingOracle()
    oracle.setup(space=load_space(f"my_spaces:{cls}"))
    images = load_images("digits", size=None)
    with pytest.raises(UserError, match=sentence):
        oracle.set_images(images, dataset="digits", seconds=None, epochs=1, seed=0, device="cpu")
