"""Makes `results/search.png`, the picture in the README: the default search for CIFAR-10 on the benchmark's table.

    python -m experiments.search_figure
"""

from __future__ import annotations

from experiments.shared.common import begin, parser
from experiments.shared.results import RESULTS


def main() -> None:
    parser(__doc__).parse_args()
    begin()
    from diffnag import SearchOptions
    from diffnag.search_loop.loop import Search
    from diffnag.search_loop.show.curve import search_picture
    from diffnag.search_loop.show.reference import reference_of

    with Search(SearchOptions(dataset="cifar10", predictor="meta", oracle="table")) as search:
        result = search.run()
        search_picture(RESULTS / "search.png", result, search.space, reference=reference_of(search))
    print(f"wrote {RESULTS / 'search.png'}: {result.best}")


if __name__ == "__main__":
    main()
