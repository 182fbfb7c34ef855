"""Reader of computation graphs of TPU programs with their runtimes, as LayerDAG (Li et al., ICLR 2025) uses them.

The programs come from TpuGraphs (Phothilimthana et al., NeurIPS 2023). A program was run with several tilings, so that one graph occurs
several times; its value here is the mean over all of them. The unit of the runtimes is that of the file.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from diffnag.errors import UserError
from diffnag.io.text_tables import reading
from diffnag.search_spaces.shared.table_files import check_file, make_table

if TYPE_CHECKING:
    from diffnag.io.tables import BenchmarkTable
    from diffnag.search_spaces.tpu_tiles.space import TPUTiles

WHAT = "file of TPU programs"
ARRAYS = ("op", "node_ptr", "src", "dst", "edge_ptr", "runtime")


def read(path: Path, space: TPUTiles) -> BenchmarkTable:
    """Each graph of the file at `path` once, with its mean runtime; `UserError` for other files and for graphs that break a rule."""
    check_file(path, trust_pickle=False)
    with reading(path, WHAT), path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        if missing := [name for name in ARRAYS if name not in arrays]:
            raise UserError(f"{path} is no {WHAT}: it lacks the array {missing[0]}")
        op, node_ptr, src, dst, edge_ptr, runtime = (arrays[name] for name in ARRAYS)
        if not len(node_ptr) == len(edge_ptr) == len(runtime) + 1:
            raise UserError(f"{path} is damaged: node_ptr, edge_ptr and runtime do not belong to the same number of graphs")
        found: dict[str, list[float]] = {}
        for number, value in enumerate(runtime.tolist()):
            nodes, edges = (slice(pointers[number], pointers[number + 1]) for pointers in (node_ptr, edge_ptr))
            arch, why = space.of_program(op[nodes].tolist(), list(zip(src[edges].tolist(), dst[edges].tolist(), strict=True)))
            if arch is None:
                raise UserError(f"{path}: graph {number} is no program of {space.name}: {why}")
            found.setdefault(space.to_str(arch), []).append(value)
    means = np.array([np.mean(values) for values in found.values()], dtype=np.float32)
    return make_table(path, space, list(found), {"tpu/val/0": means}, {}, version="LayerDAG", not_accuracies=["tpu/val/0"])
