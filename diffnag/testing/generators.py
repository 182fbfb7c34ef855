"""The contract of generators."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import pytest

from diffnag.arch import Arch, ArchBatch
from diffnag.errors import UserError
from diffnag.guidance.checked import CheckedPredictor
from diffnag.guidance.choice import KINDS
from diffnag.protocols import Generator, SearchSpace
from diffnag.testing.draws import draws


class GeneratorContract:
    """What every generator must do. Fixture: `generator`, whose space can be drawn from; a few hundred samples take seconds."""

    def test_samples_are_decoded_and_counted(self, generator: Generator) -> None:
        made = generator.sample(64, seed=0)
        assert len(made.decoded) == len(made.by_threshold) == 64 and made.guidance == "none" and made.wall_s > 0
        assert made.nfe >= 0 and made.predictor_nfe == 0
        space = generator.space
        assert made.archs and all(space.decode(*space.encode(arch)) == (arch, None) for arch in made.archs)
        assert all((item.arch is None) == bool(item.reason) for item in made.decoded)

    def test_samples_are_seeded_and_do_not_depend_on_their_number(self, generator: Generator) -> None:
        few = generator.sample(64, seed=1).decoded
        assert few == generator.sample(64, seed=1).decoded != generator.sample(64, seed=2).decoded
        assert few == generator.sample(128, seed=1).decoded[:64]

    def test_variations_are_seeded(self, generator: Generator) -> None:
        roots = generator.sample(8, seed=0).archs
        made = generator.vary(roots, 32, seed=1)
        assert len(made.decoded) == 32
        assert made.decoded == generator.vary(roots, 32, seed=1).decoded != generator.vary(roots, 32, seed=2).decoded

    def test_a_move_leaves_the_law_in_place(self, generator: Generator) -> None:
        """How often each operator occurs, before and after a move: within five standard errors, and 3 % of the nodes."""
        before = generator.sample(512, seed=3).archs
        after = generator.vary(before, len(before), seed=4).archs
        shares = [ArchBatch.of(archs, generator.space).V.mean((0, 1)).numpy() for archs in (before, after)]
        spread = np.sqrt(shares[0] * (1 - shares[0]) / (len(before) * generator.space.nodes))
        assert len(after) >= 0.9 * len(before)
        assert (np.abs(shares[1] - shares[0]) <= 5 * spread + 0.03).all()

    def test_every_kind_of_guidance_raises_what_it_should(self, generator: Generator) -> None:
        """A predictor that counts the operator that varies most; particles need nothing but `predict`."""
        from diffnag.generators.base import Steer
        from diffnag.guidance.tilt import Tilt

        assert generator.steers <= set(KINDS)
        if "particles" not in generator.steers:
            pytest.skip("it is not steered by particles")
        counts = ArchBatch.of(draws(generator.space, 200), generator.space).V.sum(1)
        counter = _Counter(generator.space, int(counts.std(0).argmax()))
        tilt = Tilt(CheckedPredictor("counter", counter), generator.space, 1.0)
        made = generator.sample(128, seed=5, steer=Steer(tilt=tilt))
        free = generator.sample(128, seed=5)
        assert made.guidance in generator.steers and made.predictor_nfe > 0
        found, z = counter.predict(free.archs)[0], tilt.z(free.archs)
        rise = float(np.average(found, weights=np.exp(z - z.max())) - found.mean())
        assert rise > 0 and counter.predict(made.archs)[0].mean() > found.mean() + 0.4 * rise

    def test_particles_keep_to_what_is_wanted(self, generator: Generator) -> None:
        from diffnag.generators.base import Steer
        from diffnag.guidance.tilt import Tilt

        if "particles" not in generator.steers:
            pytest.skip("it is not steered by particles")
        free = generator.sample(64, seed=6).archs
        op = int(ArchBatch.of(free, generator.space).V.sum(1).std(0).argmax())
        counter = _Counter(generator.space, op)
        most = float(np.median(counter.predict(free)[0]))

        def wanted(arch: Arch) -> bool:
            return bool(counter.predict([arch])[0][0] <= most)

        tilt = Tilt(CheckedPredictor("counter", counter), generator.space, 1.0)
        made = generator.sample(64, seed=6, steer=Steer(tilt=tilt, wanted=wanted))
        assert made.archs and all(map(wanted, made.archs))

    def test_a_condition_that_it_lacks_is_refused(self, generator: Generator) -> None:
        from diffnag.generators.base import Steer

        with pytest.raises(UserError, match="no-such-property"):
            generator.sample(1, seed=0, steer=Steer(condition={"no-such-property": 1.0}))

    def test_provenance_can_stand_in_a_result(self, generator: Generator) -> None:
        about = generator.provenance()
        assert about["generator"] and all(isinstance(value, str) for value in about.values())
        json.dumps(dict(about))


class _Counter:
    """A predictor that knows how often an operator occurs."""

    labels_source: ClassVar[dict[str, int]] = {}

    def __init__(self, space: SearchSpace, op: int) -> None:
        self._space, self._op = space, op

    def fit(self, archs: Sequence[Arch], y: np.ndarray) -> None:
        raise NotImplementedError

    def predict(self, archs: Sequence[Arch]) -> tuple[np.ndarray, np.ndarray]:
        counts = ArchBatch.of(archs, self._space).V.sum(1)[:, self._op].double().numpy()
        return counts, np.zeros(len(archs))
