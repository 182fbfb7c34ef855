"""Time the networks of a bundle on this device: `python runner.py`. It needs numpy and onnxruntime, and nothing of diffnag.

Each round runs every network once without timing it and then a few times with timing, in turn, so that a device that slows down
slows all of them. A latency is the median over all rounds. `measured.csv` is written again after each round: stopping early loses
nothing but precision.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

REPEATS = 3
"""Timed runs of a network in each round."""
MANIFEST, MEASURED = "bundle.json", "measured.csv"


def timed_rounds(
    runs: Mapping[str, Callable[[], object]], *, rounds: int, clock: Callable[[], float] = time.perf_counter
) -> Iterator[dict[str, float]]:
    """Call all `runs` in turn, and yield after each round the median time of each so far, in ms."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            run()  # its weights are in the cache again
            for _ in range(REPEATS):
                begin = clock()
                run()
                taken[name].append(1e3 * (clock() - begin))
        yield {name: float(np.median(times)) for name, times in taken.items()}


def network_run(content: bytes, *, batch: int, threads: int) -> Callable[[], object]:
    """A function that runs an ONNX file on `batch` images of the size that it takes, on the CPU with `threads` threads."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0" if threads == 1 else "1")
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    (images_in,) = session.get_inputs()
    images = np.random.default_rng(0).random((batch, *images_in.shape[1:]), dtype=np.float32)
    return lambda: session.run(None, {"images": images})


def main() -> None:
    """Read the bundle, time its networks, and write `measured.csv`."""
    parser = argparse.ArgumentParser(description="Time the networks of this bundle on this device, with onnxruntime on its CPU.")
    parser.add_argument("--out", type=Path, help=f"the CSV to write, with the columns arch and ms (default: {MEASURED} beside this script)")
    parser.add_argument("--rounds", type=int, default=20, help=f"rounds of {REPEATS} timed runs of each network (default: 20)")
    args = parser.parse_args()
    if args.rounds < 1:
        sys.exit("error: --rounds must be at least 1")
    folder = Path(__file__).resolve().parent
    out = args.out or folder / MEASURED
    bundle = json.loads((folder / MANIFEST).read_text())
    export = bundle["export"]
    runs = {
        arch: network_run((folder / name).read_bytes(), batch=export["batch"], threads=export["threads"])
        for name, arch in bundle["networks"].items()
    }
    for number, medians in enumerate(timed_rounds(runs, rounds=args.rounds), start=1):
        temporary = out.with_name(out.name + ".writing")
        with temporary.open("w", newline="") as file:
            csv.writer(file).writerows([("arch", "ms"), *medians.items()])
        os.replace(temporary, out)
        print(f"round {number} of {args.rounds}: {min(medians.values()):.2f} to {max(medians.values()):.2f} ms", flush=True)
    print(f"wrote {out}; batch {export['batch']}, {export['threads']} thread(s)")


if __name__ == "__main__":
    main()
