"""Trace the models of timm and torchvision for the space `network-zoo`.

    python -m experiments.trace_networks [--models REGEX]

It runs in an environment of its own, beside this package's numpy and torch: timm, and the torchvision that
belongs to the torch.
Models are built on the meta device, without weights. What is kept is the structure of each distinct graph and the name of the first
model that has it; the file also counts what was left out, and why.
"""

from __future__ import annotations

import gzip
import json
import platform
import re
from collections import Counter
from importlib.metadata import version
from pathlib import Path

from experiments.shared.common import parser
from experiments.shared.results import ROOT

OUT = ROOT / "search_spaces" / "network_zoo" / "graphs.json.gz"


def main() -> None:
    """Trace, fold, fit, and write the graphs."""
    from experiments.zoo.fitting import fitted
    from experiments.zoo.folding import LeftOut, folded
    from experiments.zoo.tracing import builders, traced

    options = parser(__doc__)
    options.add_argument("--models", default="", help="only models whose name has this pattern (default: all)")
    options.add_argument("--out", type=Path, default=OUT, help="file to write (default: that of the package)")
    args = options.parse_args()
    graphs: dict[object, str] = {}
    left_out: Counter[str] = Counter()
    first: dict[str, str] = {}
    same = 0
    for name, build, images in builders():
        if not re.search(args.models, name):
            continue
        try:
            rows, side = traced(build, images)
            graph = fitted(folded(rows, side), side)
            same += graph in graphs
            graphs.setdefault(graph, name)
        except LeftOut as why:
            reason = re.sub(r"node \d+", "a node", str(why))
        except Exception as error:  # of a model whose way depends on its input, and the like
            reason = f"not traced: {type(error).__name__}"
        else:
            continue
        left_out[reason] += 1
        first.setdefault(reason, name)
    for reason, count in left_out.most_common():
        print(f"{count:5d}  {reason}, such as {first[reason]}")
    print(f"{len(graphs)} graphs of {same + len(graphs)} models; {left_out.total()} models are left out")
    content = {
        "made_by": {
            "command": "python -m experiments.trace_networks",
            "versions": {"python": platform.python_version(), **{name: version(name) for name in ("torch", "timm", "torchvision")}},
            "models": same + len(graphs) + left_out.total(), "of_equal_graphs": same, "left_out": dict(left_out.most_common()),
        },
        "graphs": {name: graph for graph, name in graphs.items()},
    }  # fmt: skip
    packed = gzip.compress(json.dumps(content, separators=(",", ":")).encode(), mtime=0)
    args.out.write_bytes(packed)
    print(f"wrote {args.out}: {len(packed):,} bytes")


if __name__ == "__main__":
    main()
