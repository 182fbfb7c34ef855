"""diffnag: generate neural architectures for a task.

    from diffnag import Steer, load_generator, load_predictor, load_space

    space = load_space("nasbench201")
    generator = load_generator(space)
    predictor = load_predictor("meta", space=space, dataset="cifar10", seed=0)
    made = generator.sample(256, seed=0, steer=Steer.by(predictor, space, scale=3.0))
    print(space.to_str(made.archs[0]), made.guidance)

    from diffnag import SearchOptions, run_search
    result = run_search(SearchOptions(dataset="cifar10", predictor="meta", budget=30))

The command lines (`python -m diffnag.search` and its like) are thin callers of the same names. They are imported when
first used, so that `import diffnag` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from diffnag._version import __version__

if TYPE_CHECKING:
    from diffnag.arch import Arch, ArchBatch
    from diffnag.datasets.tasks import Task
    from diffnag.errors import UserError
    from diffnag.generators.base import Generation, Steer
    from diffnag.generators.diffusion.denoiser import Denoiser, load_denoiser
    from diffnag.generators.diffusion.generator import Generator
    from diffnag.generators.diffusion.guided import denoised_guided, gradient_guided
    from diffnag.generators.loading import load_generator
    from diffnag.guidance.checked import CheckedPredictor, load_predictor
    from diffnag.guidance.particles import particles
    from diffnag.guidance.relaxation import relax
    from diffnag.guidance.tilt import Tilt
    from diffnag.networks.classifier_file import Classifier, load_model
    from diffnag.plugins import make_oracle
    from diffnag.search_loop.loop import run_search
    from diffnag.search_loop.options import SearchOptions
    from diffnag.search_loop.result import SearchResult
    from diffnag.spaces.categorical import CategoricalSpace
    from diffnag.spaces.loading import load_space

_HOMES = {
    "arch": ("Arch", "ArchBatch"),
    "datasets.tasks": ("Task",),
    "errors": ("UserError",),
    "generators.base": ("Generation", "Steer"),
    "generators.diffusion.denoiser": ("Denoiser", "load_denoiser"),
    "generators.diffusion.generator": ("Generator",),
    "generators.diffusion.guided": ("denoised_guided", "gradient_guided"),
    "generators.loading": ("load_generator",),
    "guidance.checked": ("CheckedPredictor", "load_predictor"),
    "guidance.particles": ("particles",),
    "guidance.relaxation": ("relax",),
    "guidance.tilt": ("Tilt",),
    "networks.classifier_file": ("Classifier", "load_model"),
    "plugins": ("make_oracle",),
    "search_loop.loop": ("run_search",),
    "search_loop.options": ("SearchOptions",),
    "search_loop.result": ("SearchResult",),
    "spaces.categorical": ("CategoricalSpace",),
    "spaces.loading": ("load_space",),
}

__all__ = [
    "Arch",
    "ArchBatch",
    "CategoricalSpace",
    "CheckedPredictor",
    "Classifier",
    "Denoiser",
    "Generation",
    "Generator",
    "SearchOptions",
    "SearchResult",
    "Steer",
    "Task",
    "Tilt",
    "UserError",
    "__version__",
    "denoised_guided",
    "gradient_guided",
    "load_denoiser",
    "load_generator",
    "load_model",
    "load_predictor",
    "load_space",
    "make_oracle",
    "particles",
    "relax",
    "run_search",
]


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"diffnag.{home}"), name)
    raise AttributeError(f"module 'diffnag' has no attribute {name!r}")
