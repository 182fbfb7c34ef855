"""The commands of the comparison of two commits, each with what it makes.

`$OUT` stands for the folder of the case, `$INPUTS` for the folder of images and plug-ins that `inputs` makes, `$DIFFNAG_DATA` for the
user's data. With these three variables set, every command can be repeated in a shell.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Kind = Literal["samples", "json", "trials", "tensors", "model", "onnx", "bytes", "lines", "arrays", "numbers", "exists"]
"""How a file is compared; `experiments.comparison.outputs` has a function for each."""
STDOUT = "stdout.txt"
"""File of a case that holds the standard output of its last command."""
NOISE_AWARE = 1e-5
"""Tolerance where a noise-aware predictor guides: its noise level may be computed in another way, the architectures stay equal."""

COMMANDS = (
    "train_score", "generate", "likelihood", "search", "report", "draw", "export", "train_surrogate", "train_image_encoder", "embed_datasets",
    "build_meta_dataset", "data", "list", "train_predictor", "train_latency", "train_supernet", "device",
)  # fmt: skip
CELL = "|nor_conv_3x3~0|+|nor_conv_1x1~0|avg_pool_3x3~1|+|skip_connect~0|none~1|nor_conv_3x3~2|"
GENOTYPE = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('avg_pool_3x3', 1), ('max_pool_3x3', 0), ('avg_pool_3x3', 2), ('sep_conv_3x3', 2), "
    "('sep_conv_5x5', 3), ('sep_conv_3x3', 3), ('sep_conv_3x3', 4)], normal_concat=[2, 3, 4, 5], reduce=[('dil_conv_3x3', 0), "
    "('sep_conv_5x5', 1), ('sep_conv_3x3', 0), ('max_pool_3x3', 1), ('avg_pool_3x3', 2), ('max_pool_3x3', 3), ('max_pool_3x3', 0), "
    "('skip_connect', 3)], reduce_concat=[2, 3, 4, 5])"
)
ARCHITECTURES = {
    "nasbench201": CELL,
    "nasbench101": "maxpool3x3@0/conv1x1@1/conv1x1@0/conv3x3@3/conv3x3@4/output@1,2,5",
    "darts": GENOTYPE,
    "mobilenetv3": "5-6_5-4_3-6_3-6:3-3_3-3:7-4_5-6:5-4_5-6_7-6_7-3:5-4_5-6_7-6",
    "transnasbench101-micro": "64-41414-3_22_110",
    "transnasbench101-macro": "64-342112-basic",
}
SMALL_NETWORK = ("--steps", "40", "--batch-size", "64", "--width", "16", "--layers", "1")


@dataclass(frozen=True)
class Output:
    """A file that a case makes in its folder, and how it is compared. `path` may be a pattern of pathlib's `glob`."""

    kind: Kind
    path: str


@dataclass(frozen=True)
class Case:
    """Commands that run one after the other in one folder, and their outputs.

    A command is a module and its arguments: `python -m` precedes it. The last one ends with `exit_code`, all others with 0. `within` is
    the tolerance of decimal numbers in samples, trials and results, relative above 1; everything else is compared exactly.
    """

    name: str
    commands: tuple[tuple[str, ...], ...]
    outputs: tuple[Output, ...] = ()
    needs_data: bool = False
    within: float = 0.0
    exit_code: int = 0
    slow: bool = False
    """Takes minutes: runs with `--slow` only."""
    own_cache: bool = False
    """Whether `$OUT/cache` is the user cache, for a command that writes there."""

    @property
    def reads_inputs(self) -> bool:
        """Whether images or plug-ins of `inputs` are used."""
        return any("$INPUTS" in word or "comparison_plugins" in word for command in self.commands for word in command)


def cases() -> tuple[Case, ...]:
    """Every case, sorted by command; names are unique."""
    found = (
        *_help(), *_lists(), *_draws(), *_reports(), *_exports(), *_generations(), *_guided(), *_score_trainings(), *_learned(),
        *_baseline_searches(), *_searches(), *_noise_aware_searches(), *_table_searches(), *_image_searches(), *_other_oracles(),
    )  # fmt: skip
    assert len({case.name for case in found}) == len(found)
    return found


def _help() -> Iterator[Case]:
    for command in COMMANDS:
        yield Case(f"help {command}", ((f"diffnag.{command}", "--help"),))
    yield Case("help data import", (("diffnag.data", "import", "--help"),))
    for command in ("measure", "fit", "predict"):
        yield Case(f"help device {command}", (("diffnag.device", command, "--help"),))


def _lists() -> Iterator[Case]:
    yield Case("list", (("diffnag.list",),))
    yield Case("data list", (("diffnag.data", "list"),))
    for space, file in {
        "nasbench201": "nas_bench_201.csv.gz", "nasbench101": "nas_bench_101.npz",
        "transnasbench101-micro": "trans_nas_bench_101.csv.gz", "transnasbench101-macro": "trans_nas_bench_101.csv.gz",
    }.items():  # fmt: skip
        command = ("diffnag.data", "import", space, "--from", f"$DIFFNAG_DATA/{file}")
        yield Case(f"data import {space}", (command,), (Output("arrays", "cache/**/*.npz"),), needs_data=True, own_cache=True)
    for kind, suffix in (("latency", "csv.gz"), ("robustness", "npz")):
        command = ("diffnag.data", "import", "nasbench201", f"--{kind}", f"$DIFFNAG_DATA/nas_bench_201_{kind}.{suffix}")
        outputs = (Output("arrays", f"cache/**/nasbench201-{kind}.npz"),)
        yield Case(f"data import {kind}", (command,), outputs, needs_data=True, own_cache=True)


def _draws() -> Iterator[Case]:
    for space, arch in ARCHITECTURES.items():
        command = ("diffnag.draw", arch, "--space", space, "--out", "$OUT/cell.svg")
        yield Case(f"draw {space}", (command,), (Output("bytes", "cell.svg"), Output("numbers", STDOUT)))


def _reports() -> Iterator[Case]:
    search = ("diffnag.search", "--dataset", "cifar10", "--oracle", "surrogate", "--method", "random", "--budget", "4", "--out", "$OUT/run")
    yield Case("report", (search, ("diffnag.report", "$OUT/run")), (Output("exists", "run/report.html"),))


def _exports() -> Iterator[Case]:
    def case(space: str, suffix: str, kind: Kind, *more: str) -> Case:
        command = ("diffnag.export", ARCHITECTURES[space], "--space", space, "--num-classes", "10", "--input-size", "32")
        outputs = (Output(kind, f"cell.{suffix}"), Output("numbers", STDOUT))
        return Case(f"export {space} {suffix}", ((*command, *more, "--out", f"$OUT/cell.{suffix}"),), outputs)

    for space in ARCHITECTURES:
        size = ("--channels", "8", "--cells", "1") if space != "mobilenetv3" else ()
        yield case(space, "pt", "model", "--seed", "3", *size)
    for space in ("nasbench201", "nasbench101", "transnasbench101-macro"):
        yield case(space, "onnx", "onnx", "--channels", "8", "--cells", "1")
    bundle = ("diffnag.device", "measure", "--samples", "3", "--channels", "4", "--cells", "1", "--bundle", "$OUT/bundle")
    yield Case("device bundle", (bundle,), (Output("onnx", "bundle/*.onnx"), Output("json", "bundle/bundle.json")))


def _generated(name: str, *arguments: str, n: int = 64, within: float = 0.0, more: tuple[Output, ...] = ()) -> Case:
    command = ("diffnag.generate", "--n", str(n), *arguments, "--out", "$OUT/archs.jsonl")
    outputs = (Output("samples", "archs.jsonl"), Output("json", "archs.metrics.json"), *more)
    return Case(f"generate {name}", (command,), outputs, within=within)


def _generations() -> Iterator[Case]:
    for space in ARCHITECTURES:
        yield _generated(space, "--space", space)
    for space in ("nasbench201", "mobilenetv3"):
        yield _generated(f"{space} argmax", "--space", space, "--quantise", "argmax", "--steps", "6")
    for sampler in ("dpmpp", "heun", "euler-maruyama", "pc"):
        yield _generated(sampler, "--sampler", sampler, "--steps", "12", "--seed", "3")
    yield _generated("many", n=1100)  # more than one chunk
    yield _generated("trace", "--space", "nasbench101", "--trace", "8", n=8, more=(Output("exists", "archs.trace.png"),))
    made = _generated("autoregressive", "--generator", "autoregressive", "--space", "nasbench101")
    known = ("diffnag.likelihood", "$OUT/archs.jsonl", "--generator", "autoregressive", "--space", "nasbench101", "--out", "$OUT/nats.jsonl")
    yield Case("likelihood", (*made.commands, known), (*made.outputs, Output("lines", "nats.jsonl")))
    refused = _generated("random-forest refused", "--predictor", "random-forest", "--dataset", "cifar10")
    yield Case(refused.name, refused.commands, exit_code=2)


def _guided() -> Iterator[Case]:
    """Guided generation; `meta` and `meta-only` are noise-aware."""
    for predictor in ("meta", "meta-only"):
        for dataset in ("cifar10", "cifar100", "ImageNet16-120", "digits"):
            yield _generated(f"{predictor} {dataset}", "--predictor", predictor, "--dataset", dataset, within=NOISE_AWARE)
    meta = ("--predictor", "meta", "--dataset", "cifar10")
    for sampler in ("heun", "euler-maruyama", "pc"):
        yield _generated(f"meta {sampler}", *meta, "--sampler", sampler, "--steps", "12", "--scale", "6", "--seed", "1", within=NOISE_AWARE)
    yield _generated("meta argmax", *meta, "--quantise", "argmax", within=NOISE_AWARE)
    yield _generated("meta particles", *meta, "--guidance", "particles")
    yield _generated("naswot", "--predictor", "naswot", "--dataset", "cifar10", n=8)
    for space, dataset in {"nasbench201": "cifar10", "nasbench101": "cifar10", "mobilenetv3": "imagenet"}.items():
        yield _generated(f"params {space}", "--space", space, "--predictor", "params", "--dataset", dataset, "--scale", "2", n=32)
    yield _generated("flops", "--predictor", "flops", "--dataset", "cifar10", n=32)
    denoised = ("--predictor", "comparison_plugins:Fixed", "--dataset", "cifar10")
    yield _generated("denoised", *denoised)
    yield _generated("denoised nasbench101", *denoised, "--space", "nasbench101", "--sampler", "heun", "--steps", "8")
    yield _generated("denoised as particles", *denoised, "--guidance", "particles")


def _score_trainings() -> Iterator[Case]:
    """Trainings of score networks, and samples of what was trained."""
    def case(name: str, space: str, *arguments: str, slow: bool = False, launcher: tuple[str, ...] = ()) -> Case:
        train = (*launcher, "diffnag.train_score", "--space", space, *SMALL_NETWORK, *arguments, "--out", "$OUT/d.safetensors")
        generate = ("diffnag.generate", "--space", space, "--checkpoint", "$OUT/d.safetensors", "--n", "32", "--out", "$OUT/archs.jsonl")
        outputs = (Output("tensors", "d.safetensors"), Output("samples", "archs.jsonl"), Output("json", "archs.metrics.json"))
        return Case(f"train_score {name}", (train, generate), outputs, slow=slow)

    joint, decided = ("--joint", "32", "--rounds", "2"), ("--cross-entropy", "--edge-groups")
    for sde in ("ve", "vp", "sub-vp"):
        yield case(sde, "nasbench201", "--sde", sde)
    yield case("options", "nasbench201", "--seed", "5", "--heads", "4", "--learning-rate", "1e-2", "--split", "canonical-sha256-0.25")
    yield case("joint", "nasbench201", *joint)
    yield case("joint vp", "transnasbench101-macro", "--sde", "vp", *joint)
    yield case("cross-entropy", "transnasbench101-micro", "--cross-entropy", "--focus", "0.5")
    yield case("edge-groups", "transnasbench101-macro", *decided)
    yield case("log-odds", "mobilenetv3", *decided, *joint, "--log-odds")
    yield case("own space", "comparison_plugins:Chain", "--steps", "60", *joint)
    yield case("two processes", "nasbench201", launcher=("torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"))
    yield case("nasbench101", "nasbench101", *decided, *joint, slow=True)
    yield case("darts", "darts", *decided, slow=True)


def _learned() -> Iterator[Case]:
    """Everything else that learns or measures: surrogate, encoder, tasks, meta-dataset, predictor."""
    weights = (Output("tensors", "weights.safetensors"),)
    out = ("--out", "$OUT/weights.safetensors")
    small = ("--epochs", "2", "--members", "1", "--width", "16")
    yield Case("train_latency", (("diffnag.train_latency", *out),), weights, needs_data=True)
    yield Case("train_surrogate", (("diffnag.train_surrogate", *small, *out),), weights, needs_data=True)
    yield Case("train_image_encoder", (("diffnag.train_image_encoder", "--images", "$INPUTS/tasks", "--epochs", "1", *out),), weights)
    yield Case(
        "train_supernet", (("diffnag.train_supernet", "--images", "$INPUTS/tasks", "--epochs", "1", "--epochs-large", "1", *out),), weights
    )
    yield Case("embed_datasets", (("diffnag.embed_datasets", "--images", "$INPUTS/tasks", "--images-per-class", "4", *out),), weights)
    for name, arguments in {
        "letters": ("--images", "letters", "--tasks", "2", "--archs-per-task", "2"),
        "digits held-out crossed": ("--images", "digits", "--held-out", "--crossed", "--tasks", "1", "--archs-per-task", "1", "--seed", "1"),
    }.items():
        command = ("diffnag.build_meta_dataset", *arguments, "--workers", "1", "--out", "$OUT/measured.jsonl")
        yield Case(f"build_meta_dataset {name}", (command,), (Output("lines", "measured.jsonl"),))
    for predictor in ("meta", "meta-only"):
        command = ("diffnag.train_predictor", "--predictor", predictor, "--target", "cifar10", *out)
        yield Case(f"train_predictor {predictor}", (command,), weights, needs_data=True, slow=True)


def _search(
    name: str, *arguments: str, dataset: str = "cifar10", oracle: str | None = "surrogate", budget: int = 12, space: str = "nasbench201",
    within: float = 0.0, needs_data: bool = False, images: bool = False, compared: bool = False,
) -> Case:  # fmt: skip
    answers = ("--oracle", oracle) if oracle else ()
    command = ("diffnag.search", "--space", space, "--dataset", dataset, *answers, "--budget", str(budget), *arguments, "--out", "$OUT/run")
    outputs = [Output("trials", "run/trials.csv"), Output("json", "run/result.json"), Output("exists", "run/search.png")]
    if images:
        outputs += [Output("model", "run/model.pt"), Output("onnx", "run/model.onnx"), Output("exists", "run/confusion.png")]
    if compared:
        outputs.append(Output("model", "run/compare/*.pt"))
    return Case(f"search {name}", (command,), tuple(outputs), needs_data=needs_data, within=within)


def _baseline_searches() -> Iterator[Case]:
    for method in ("random", "evolution", "local-search", "bananas", "tpe", "gp-enumerate"):
        for batch in (1, 3):
            yield _search(f"{method} batch {batch}", "--method", method, "--batch", str(batch), "--seed", str(batch))
    yield _search("gp-enumerate ei", "--method", "gp-enumerate", "--acquisition", "ei", dataset="cifar100")
    for method in ("random", "evolution", "gp-enumerate"):
        yield _search(f"{method} max-params", "--method", method, "--max-params", "5e5", dataset="cifar100")
    yield _search("tpe max-flops", "--method", "tpe", "--max-flops", "5e7")
    yield _search("local-search test", "--method", "local-search", "--reward", "test", dataset="ImageNet16-120")
    yield _search("evolution journal", "--method", "evolution", "--storage", "journal:$OUT/study.log", "--study", "one")


def _searches() -> Iterator[Case]:
    """Searches of method `diffnag` by predictors that know no noise."""
    gp = ("--predictor", "gp")
    for predictor in ("gp", "random-forest", "mlp", "path-ensemble", "params", "flops"):
        yield _search(predictor, "--predictor", predictor)
    for predictor in ("naswot", "synflow"):  # they build a network for every candidate
        yield _search(predictor, "--predictor", predictor, "--candidates", "8", budget=3)
    yield _search("gp batch 3", *gp, "--batch", "3", "--seed", "3", dataset="ImageNet16-120")
    for acquisition in ("ei", "pi", "ts"):
        yield _search(f"gp {acquisition}", *gp, "--acquisition", acquisition, "--reward", "test")
    yield _search("gp max-params", *gp, "--max-params", "5e5", dataset="cifar100")
    yield _search("gp options", *gp, "--candidates", "32", "--scale", "2", "--max-flops", "8e7")
    for name in ("NearestNeighbours", "Linear"):
        yield _search(f"README {name}", "--predictor", f"my_predictors:{name}", "--batch", "3", "--candidates", "64")
    yield _search("denoised", "--predictor", "comparison_plugins:Fixed", "--candidates", "32", budget=6)
    for option, name in (("--predictor", "gp"), ("--method", "evolution"), ("--method", "tpe")):
        whole = _search(f"resumed {name}", option, name, "--seed", "7")
        first = tuple("6" if before == "--budget" else word for before, word in zip(("", *whole.commands[0]), whole.commands[0], strict=False))
        yield Case(whole.name, (first, whole.commands[0]), whole.outputs)


def _noise_aware_searches() -> Iterator[Case]:
    meta = ("--predictor", "meta")
    for dataset in ("cifar10", "cifar100", "ImageNet16-120"):
        yield _search(f"meta {dataset}", *meta, dataset=dataset, within=NOISE_AWARE)
        yield _search(f"meta-only {dataset}", "--predictor", "meta-only", "--seed", "2", dataset=dataset, within=NOISE_AWARE)
    yield _search("meta batch 3", *meta, "--batch", "3", within=NOISE_AWARE)
    yield _search("meta max-params", *meta, "--max-params", "5e5", within=NOISE_AWARE)


def _table_searches() -> Iterator[Case]:
    def search(name: str, *arguments: str, space: str, dataset: str = "cifar10", oracle: str | None = "table", within: float = 0.0) -> Case:
        return _search(f"table {name}", *arguments, space=space, dataset=dataset, oracle=oracle, needs_data=True, within=within)

    yield search("nasbench201 auto", "--predictor", "gp", space="nasbench201", oracle=None)
    yield search("nasbench201 meta", "--predictor", "meta", "--reward", "test", space="nasbench201", within=NOISE_AWARE)
    for method in ("random", "evolution", "local-search", "bananas", "tpe"):
        yield search(f"nasbench101 {method}", "--method", method, "--reward", "test", space="nasbench101")
    yield search("nasbench101 gp", "--predictor", "gp", "--reward", "test", space="nasbench101")
    for part in ("micro", "macro"):
        space = f"transnasbench101-{part}"
        yield search(f"{space} gp", "--predictor", "gp", space=space, dataset="class_scene")
        yield search(f"{space} room_layout", "--predictor", "gp", "--batch", "3", space=space, dataset="room_layout")
        yield search(f"{space} tpe", "--method", "tpe", space=space, dataset="jigsaw")


def _image_searches() -> Iterator[Case]:
    def search(name: str, *arguments: str, **options: bool | float | int | str) -> Case:
        dataset, space = str(options.get("dataset", "digits")), str(options.get("space", "nasbench201"))
        return _search(
            f"images {name}", *arguments, "--epochs", "1", dataset=dataset, space=space, oracle=None, budget=int(options.get("budget", 3)),
            within=float(options.get("within", 0.0)), images=True, compared="--compare" in arguments,
        )  # fmt: skip

    yield search("digits gp compare", "--predictor", "gp", "--compare", "--seed", "1")
    yield search("digits meta", "--predictor", "meta", within=NOISE_AWARE)
    yield search("npz meta-only", "--predictor", "meta-only", dataset="$INPUTS/shapes.npz", within=NOISE_AWARE)
    yield search("folder random", "--method", "random", dataset="$INPUTS/shapes")
    yield search("image-size", "--method", "evolution", "--image-size", "12", dataset="$INPUTS/shapes")
    yield search("nasbench101", "--method", "random", space="nasbench101", budget=2)
    yield search("transnasbench101-macro", "--method", "random", space="transnasbench101-macro", budget=2)
    yield search("own space", "--method", "random", space="comparison_plugins:Chain", budget=2)


def _other_oracles() -> Iterator[Case]:
    """Oracles that train nothing, in spaces without a table or surrogate."""
    gp, random = ("--predictor", "gp"), ("--method", "random")
    yield _search("naswot mobilenetv3 gp", *gp, space="mobilenetv3", dataset="imagenet", oracle="naswot", budget=4)
    yield _search("naswot mobilenetv3 random", *random, space="mobilenetv3", dataset="imagenet", oracle="naswot", budget=3)
    yield _search("zen nasbench201", *random, oracle="zen", budget=4)
    yield _search("synflow nasbench101", *random, space="nasbench101", oracle="synflow", budget=3)
    yield _search("naswot darts", *random, space="darts", oracle="naswot", budget=2)
