"""The shape of the source: which file may import which, and how large files, functions and folders may grow.

All of it is computed from the syntax trees of the sources. An import inside a function counts, one under `if TYPE_CHECKING` does not.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from itertools import pairwise
from pathlib import Path

import networkx

ROOT = Path(__file__).parents[1]
PLUGINS = ("predictors", "search_spaces")
"""Folders at the top of the checkout that are installed under `diffnag.`, and reached by entry points alone."""

LAYERS = (
    # from the ground up; a module imports from its own line and from the lines above it in this list
    "errors _version",
    "arch protocols plugins",
    "command io",
    "spaces",
    "drawing",
    "datasets",
    "networks",
    "devices oracles",
    "guidance",
    "generators",
    "objectives",
    "search_loop/trial search_loop/options search_loop/acquisition search_loop/domain search_loop/outlook search_loop/model search_loop/head_start",
    "search_loop/study",
    "search_loop/methods",
    "search_loop/assembly search_loop/evaluation search_loop/identity search_loop/oracle search_loop/loop search_loop/result search_loop/fronts",
    "search_loop/finish search_loop/report search_loop/show search_loop/workers",
    "predictors search_spaces",
    "COMMANDS testing __init__",
)
"""A path names a module or a folder with all that is in it; COMMANDS are the modules directly in diffnag/ that no other line names."""

LONGEST_FILE, LONGEST_FUNCTION, FULLEST_FOLDER = 400, 60, 16


def refuse(found: Iterable[str], rule: str) -> None:
    """Fail with all that breaks a rule."""
    wrong = sorted(set(found))
    assert not wrong, "\n  ".join([f"{rule}:", *wrong])


@cache
def trees(folder: str) -> Mapping[str, ast.Module]:
    """Syntax trees of a folder by path without suffix; what is installed is called as within diffnag/: `io/files`, `predictors/mlp`."""
    above = ROOT / "diffnag" if folder == "diffnag" else ROOT
    paths = sorted((ROOT / folder).rglob("*.py"))  # links are not followed: diffnag/predictors and its like are read where they lie
    return {path.relative_to(above).with_suffix("").as_posix(): ast.parse(path.read_text(encoding="utf-8"), str(path)) for path in paths}


def installed() -> Mapping[str, ast.Module]:
    return {name: tree for folder in ("diffnag", *PLUGINS) for name, tree in trees(folder).items()}


def run_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes below `node` but those that only a type checker reads."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test).split(".")[-1] == "TYPE_CHECKING":
            for other in child.orelse:
                yield from (other, *run_nodes(other))
        else:
            yield from (child, *run_nodes(child))


def imports_of(name: str, tree: ast.Module, modules: Iterable[str]) -> dict[str, set[str]]:
    """Modules of the package that a module imports, with the names it takes from each."""

    def home(dotted: str) -> str | None:
        path = "/".join(dotted.split(".")[1:])
        options = (path, f"{path}/__init__" if path else "__init__")
        return next((each for each in options if each in modules), None)

    taken: dict[str, set[str]] = {}

    def add(dotted: str, what: str) -> None:
        if dotted.split(".")[0] in PLUGINS:
            raise AssertionError(f"{name} imports {dotted}; installed it is diffnag.{dotted}")
        if dotted.split(".")[0] == "diffnag":
            target = home(dotted)
            assert target is not None, f"{name} imports {dotted}, which is no module"
            taken.setdefault(target, set()).add(what)

    for node in run_nodes(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                add(alias.name, "the module")
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name}, line {node.lineno}: imports are absolute"
            for alias in node.names:
                module = f"{node.module}.{alias.name}"
                is_module = module.startswith("diffnag.") and home(module) is not None
                add(module if is_module else str(node.module), "the module" if is_module else alias.name)
    return taken


@cache
def graph() -> networkx.DiGraph:
    """Imports between modules; each edge carries the `names` taken."""
    made = networkx.DiGraph()
    modules = installed()
    made.add_nodes_from(modules)
    for name, tree in modules.items():
        for target, taken in imports_of(name, tree, modules).items():
            made.add_edge(name, target, names=", ".join(sorted(taken)))
    return made


def is_command(name: str) -> bool:
    named = {each for line in LAYERS for each in line.split()}
    return "/" not in name and name not in named


def layer(name: str) -> int:
    """Number of the line of LAYERS that names a module or the closest folder around it."""
    lines = {each: number for number, line in enumerate(LAYERS) for each in line.split()}
    if is_command(name):
        return lines["COMMANDS"]
    parts = name.removesuffix("/__init__").split("/")
    for length in range(len(parts), 0, -1):
        if (found := lines.get("/".join(parts[:length]))) is not None:
            return found
    if any(each.startswith(f"{parts[0]}/") for each in lines) and name == f"{parts[0]}/__init__":
        return max(number for each, number in lines.items() if each.startswith(f"{parts[0]}/"))
    raise AssertionError(f"LAYERS of {__file__} does not say where {name} belongs")


def circles(edges: Iterable[tuple[str, str]]) -> list[str]:
    """One line for each set of nodes that reach each other: its names, then one way round."""
    found = []
    for part in networkx.strongly_connected_components(whole := networkx.DiGraph(list(edges))):
        if len(part) > 1:
            way = networkx.find_cycle(whole.subgraph(part), source=min(part))
            found.append(f"{' + '.join(sorted(part))}: {' -> '.join([way[0][0], *(to for _, to in way)])}")
    return found


def siblings(one: str, other: str) -> tuple[str, str] | None:
    """The two folders or modules, side by side in one folder, that hold `one` and `other`; None where one of them is not inside."""
    first, second = one.split("/"), other.split("/")
    for depth, (left, right) in enumerate(zip(first, second, strict=False)):
        if left != right:
            return "/".join(first[: depth + 1]), "/".join(second[: depth + 1])
    return None


def test_the_graph_is_read() -> None:
    """The tests below pass vacuously on an empty graph, and this one checks the reader itself."""
    assert graph().number_of_nodes() > 100
    assert graph().has_edge("search", "command/running")
    assert graph().has_edge("predictors/mlp", "guidance/relaxation")
    assert graph().has_edge("search_spaces/nasbench201/space", "search_spaces/nasbench201/network")
    source = """
from diffnag import a
if TYPE_CHECKING:
    from diffnag.b import c
else:
    import diffnag.d.e
def f():
    from diffnag.d import g
"""
    modules = ("a", "b", "d/__init__", "d/e")
    assert imports_of("here", ast.parse(source), modules) == {"a": {"the module"}, "d/e": {"the module"}, "d/__init__": {"g"}}
    assert circles([("a", "b"), ("b", "c"), ("c", "a"), ("c", "d")]) == ["a + b + c: a -> b -> c -> a"]
    assert siblings("loop/study/one", "loop/trial") == ("loop/study", "loop/trial")


def test_no_upward_import() -> None:
    found = [f"{one} -> {other}: {names}" for one, other, names in graph().edges(data="names") if layer(other) > layer(one)]
    refuse(found, "Imports point down only, by the order of LAYERS")


def test_no_circles() -> None:
    """Between modules, and between the folders and modules that stand side by side in one folder."""
    beside = (pair for one, other in graph().edges if (pair := siblings(one, other)) is not None)
    refuse({*circles(graph().edges), *circles(beside)}, "No circle of imports")


def test_plugins_are_reached_by_entry_points_alone() -> None:
    """Nothing imports a space or a predictor but its own kind, and no command imports a command."""
    wrong = [
        f"{one} -> {other}"
        for one, other in graph().edges
        if (other.split("/")[0] in PLUGINS and one.split("/")[0] != other.split("/")[0]) or is_command(other)
    ]
    assert not wrong, wrong


def test_commands_can_be_run() -> None:
    """A module directly in diffnag/ is a command or stands in LAYERS."""
    commands = [name for name in installed() if is_command(name)]
    assert {"search", "generate", "list"} <= set(commands)
    for name in commands:
        guards = [node for node in installed()[name].body if isinstance(node, ast.If) and "__name__" in ast.unparse(node.test)]
        assert guards, f"diffnag/{name}.py cannot be run, and LAYERS of {__file__} does not say where it belongs"


EVERYWHERE = ("diffnag", *PLUGINS, "experiments", "tests")


def definitions(tree: ast.AST, outer: str = "") -> Iterator[tuple[str, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]]:
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield f"{outer}{child.name}", child
            yield from definitions(child, f"{outer}{child.name}.")
        else:
            yield from definitions(child, outer)


def test_files_are_short() -> None:
    files = [path for folder in EVERYWHERE for path in (ROOT / folder).rglob("*.py")]
    assert len(files) > 200
    long = [f"{path.relative_to(ROOT)}: {lines} lines" for path in files if (lines := len(path.read_text().splitlines())) > LONGEST_FILE]
    refuse(long, f"No file is longer than {LONGEST_FILE} lines")


def test_functions_are_short() -> None:
    long = []
    for folder in EVERYWHERE:
        for file, tree in trees(folder).items():
            for name, node in definitions(tree):
                assert node.end_lineno is not None
                if not isinstance(node, ast.ClassDef) and (lines := node.end_lineno - node.lineno + 1) > LONGEST_FUNCTION:
                    long.append(f"{file} {name}: {lines} lines")
    refuse(long, f"No function is longer than {LONGEST_FUNCTION} lines")


def test_folders_are_not_crowded() -> None:
    """Commands in diffnag/ and scripts in experiments/ are for the user to see side by side, and tests are found by name."""
    folders = {path.parent for folder in ("diffnag", *PLUGINS, "experiments") for path in (ROOT / folder).rglob("*.py")}
    full = []
    for folder in folders:
        modules = [path.stem for path in folder.glob("*.py") if path.stem != "__init__"]
        if folder == ROOT / "diffnag":
            modules = [name for name in modules if not is_command(name)]
        if folder == ROOT / "experiments":
            modules = [name for name in modules if "__main__" not in (folder / f"{name}.py").read_text()]
        if len(modules) > FULLEST_FOLDER:
            full.append(f"{folder.relative_to(ROOT)}: {len(modules)} modules")
    refuse(full, f"No folder holds more than {FULLEST_FOLDER} modules")


def test_docstrings_open_plainly() -> None:
    """A docstring opens with what the thing is or does; one that opens with "Of" hides its subject."""
    found = []
    for folder in EVERYWHERE:
        for file, tree in trees(folder).items():
            for name, node in ((file, tree), *((f"{file} {name}", node) for name, node in definitions(tree))):
                found += [name] if any(text.split()[:1] == ["Of"] for text in docstrings(node)) else []
    refuse(found, 'No docstring opens with "Of"')


def docstrings(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """The docstring of `node`, and the texts that follow assignments directly in it."""
    texts = [ast.get_docstring(node) or ""]
    for before, after in pairwise(node.body):
        if isinstance(before, ast.Assign | ast.AnnAssign) and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            texts.append(str(after.value.value))
    return texts
