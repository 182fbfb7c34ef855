"""Makes `results/search.png`, the picture in the README: the default search for CIFAR-10 on the benchmark's table.

    python -m experiments.search_figure
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from experiments.shared.common import begin, parser
from experiments.shared.results import RESULTS


def main() -> None:
    parser(__doc__).parse_args()
    begin()
    from diffnag import SearchOptions, load_space, run_search
    from diffnag.search_loop.show.files import write_result

    result = run_search(SearchOptions(dataset="cifar10", predictor="meta", oracle="table"))
    with tempfile.TemporaryDirectory() as folder:
        write_result(Path(folder), result, load_space("nasbench201"))
        (RESULTS / "search.png").write_bytes((Path(folder) / "search.png").read_bytes())
    print(f"wrote {RESULTS / 'search.png'}: {result.best}")


if __name__ == "__main__":
    main()
