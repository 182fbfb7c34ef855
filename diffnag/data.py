"""Import benchmark tables into the user cache, and list those that are found: `python -m diffnag.data import` and `... list`."""

from __future__ import annotations

import argparse
from pathlib import Path

from diffnag import plugins
from diffnag.command.running import run_command
from diffnag.errors import DataNotFound, UserError
from diffnag.io.files import written_whole
from diffnag.io.property_tables import PropertyTable, kept_file, load_properties, locate_properties, read_properties
from diffnag.io.tables import BenchmarkTable, imported_file, kept_oracle_file, load_table, locate, locate_file, read_benchmark
from diffnag.protocols import HasMoreTables, KeepsOracleFile, ReadsTables


def import_table(space: str, source: str | Path, *, trust_pickle: bool = False) -> BenchmarkTable:
    """Read a benchmark's own file and write it, in a compact form, to the user cache, where the table oracle finds it."""
    from diffnag.spaces.loading import load_space

    reader = load_space(space)
    if not isinstance(reader, ReadsTables):
        raise DataNotFound(f"space {reader.name!r} has no benchmark table to import")
    table = read_benchmark(reader, Path(source), trust_pickle=trust_pickle)
    table.save(imported_file(reader.name))
    return table


def import_oracle_file(space: KeepsOracleFile, source: Path) -> str:
    """Check the user's copy of the file that the oracle of `space` reads, and keep it in the user cache; returns what it holds."""
    found = space.check_oracle_file(source)
    with written_whole(kept_oracle_file(space.oracle_file)) as temporary:
        temporary.write_bytes(source.read_bytes())
    return found


def import_properties(space: str, kind: str, source: str | Path) -> PropertyTable:
    """Read a table of a `kind`, such as `latency`, and write it to the user cache, where objectives find it."""
    from diffnag.spaces.loading import load_space

    reader = load_space(space)
    if not isinstance(reader, HasMoreTables) or kind not in reader.more_tables:
        raise DataNotFound(f"space {reader.name!r} has no table of {kind} to import")
    table = read_properties(reader, kind, Path(source))
    table.save(kept_file(reader.name, kind))
    return table


def describe(space: str) -> list[str]:
    """Lines for `list`: the place, version and checksum of each table of `space` or of its oracle's file, or why it cannot be used."""
    from diffnag.spaces.loading import load_space

    reader = load_space(space)
    lines = []
    try:
        if isinstance(reader, KeepsOracleFile):
            return [f"{space}: {_describe_oracle_file(reader)}"]
        table = load_table(reader)
        assert isinstance(reader, ReadsTables)  # or it had no table
        lines.append(f"{space}: {locate(reader, reader.name)}, {_summary(table)}")
    except UserError as error:
        lines.append(f"{space}: {error}")
    for kind in reader.more_tables if isinstance(reader, HasMoreTables) else ():
        try:
            found = load_properties(reader, kind)
            lines.append(f"{space}, {kind}: {locate_properties(reader, kind)}, {_summary_of_properties(found)}")
        except UserError as error:
            lines.append(f"{space}, {kind}: {error}")
    return lines


def _summary_of_properties(table: PropertyTable) -> str:
    return f"{len(table.archs):,} architectures, {len(table.columns)} columns, sha256 {table.sha256}"


def _describe_oracle_file(space: KeepsOracleFile) -> str:
    path = locate_file(space.oracle_file)
    return f"{space.oracle_file} is not here" if path is None else f"{path}, {space.check_oracle_file(path)}"


def _summary(table: BenchmarkTable) -> str:
    part = "" if table.complete else " (a part of the space)"
    return f"{len(table.archs):,} architectures{part}, version {table.version}, sha256 {table.sha256}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m diffnag.data", description="Import and list the benchmark tables that the table oracle reads.")
    commands = parser.add_subparsers(dest="command", required=True)
    take = commands.add_parser(
        "import",
        help="read a benchmark's file into the user cache",
        description="Read a benchmark's file into the user cache, where all later commands find it. A table in $DIFFNAG_DATA comes before it.",
        epilog="For nasbench201: a CSV with the columns of nas_bench_201.csv.gz, gzipped or plain, or the official "
        "NAS-Bench-201-v1_1-096897.pth. The official file needs pip install diffnag[nasbench201], --trust-pickle, and several "
        "times its size (4.7 GB) in memory: plan for 32 GB. A version in the file's name (v1_0, v1_1) is stored. "
        "For nasbench101: the official nasbench_only108.tfrecord or nasbench_full.tfrecord (without TensorFlow), "
        "or an .npz with the columns of nas_bench_101.npz. For gpt-s, gpt-m and gpt-l: hw_gpt_bench.npz, which is kept as it is for all three. "
        "For tpu-tiles: tpu_tiles.npz.",
    )
    take.add_argument("space", help="search space, such as nasbench201")
    source = take.add_mutually_exclusive_group(required=True)
    source.add_argument("--from", dest="source", metavar="FILE", help="the benchmark's own file of accuracies")
    source.add_argument("--latency", metavar="FILE", help="latencies: a CSV with a column index or arch, and columns <device>_ms")
    source.add_argument("--robustness", metavar="FILE", help="accuracies under attack and corruption: an .npz in the order of the benchmark")
    take.add_argument(
        "--trust-pickle", action="store_true", help="load a pickle, which can run any code; only for a file that you trust"
    )
    commands.add_parser("list", help="show the tables that are found, with place, version and checksum")
    return parser


def main() -> None:
    from diffnag.spaces.loading import load_space

    args = _parser().parse_args()
    if args.command == "list":
        for space in plugins.names("space"):
            print(*describe(space), sep="\n")
        return
    for kind, file in ((kind, file) for kind, file in (("latency", args.latency), ("robustness", args.robustness)) if file is not None):
        found = import_properties(args.space, kind, file)
        print(f"{found.space}, {kind}: {_summary_of_properties(found)}")
        print(f"written to {kept_file(found.space, kind)}")
        return
    if isinstance(owner := load_space(args.space), KeepsOracleFile):
        print(f"{args.space}: {import_oracle_file(owner, Path(args.source))}")
        print(f"written to {kept_oracle_file(owner.oracle_file)}")
        return
    table = import_table(args.space, args.source, trust_pickle=args.trust_pickle)
    print(f"{table.space}: {_summary(table)}")
    print(f"written to {imported_file(table.space)}")


if __name__ == "__main__":
    run_command(main)
