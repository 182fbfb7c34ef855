"""Values of the figures on a user's own images, for the README and the page of all measurements."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from diffnag.search_spaces.nasbench201.space import NASBench201
from experiments.shared.results import Values, read_result


def photos() -> list[Values]:
    """Means over the seeds, for each number of photos, time and limit; the difference to the better rival is over seeds that have both."""
    rows = read_result("photos").get("rows", [])
    means: list[Values] = []
    for setting in sorted({(-row["a_class"], row["minutes"], tuple(row["limits"])) for row in rows if row["arm"] == "search"}):
        mine = [row for row in rows if (-row["a_class"], row["minutes"], tuple(row["limits"])) == setting]
        ours = {row["seed"]: row for row in mine if row["arm"] == "search"}
        tuned, drawn = ({row["seed"]: row["test_accuracy"] for row in mine if row["arm"] == arm} for arm in ("fine-tuning", "random"))
        quantised = [(row["eight_bits"], row["test_accuracy"]) for row in ours.values() if row.get("eight_bits")]
        gains = [row["test_accuracy"] - max(row["probe"]["test_accuracy"], tuned[seed]) for seed, row in ours.items() if seed in tuned]
        means.append({
            "a_class": -setting[0], "minutes": setting[1], "limits": " and ".join(setting[2]), "seeds": len(ours),
            "kept": _mean([row["test_accuracy"] for row in ours.values()]),
            "searched": _mean([row["searched"]["test_accuracy"] for row in ours.values()]),
            "probe": _mean([row["probe"]["test_accuracy"] for row in ours.values()]),
            "tuned": _mean(list(tuned.values())) if tuned else None, "gain": _mean(gains) if gains else None,
            "random": _mean(list(drawn.values())) if drawn else None,
            "lost_in_8_bits": _mean([whole - found["test_accuracy"] for found, whole in quantised]) if quantised else None,
            "latency_in_8_bits": _mean([found["milliseconds"] / found["milliseconds_in_32_bits"] for found, _ in quantised]) if quantised else None,
            "flops": _mean([row["searched"]["flops"] for row in ours.values()]),
            "wall_s": max(row.get("command_s", row["wall_s"]) for row in ours.values()),
        })  # fmt: skip
    return means


def own_images() -> Values:
    """Accuracies and seconds of the digits, and what early stopping saves."""
    found = read_result("own_images")
    digits = found["digits"]
    return {
        "digits": digits, "accuracy": [row["test_accuracy"] for row in digits], "cpu_s": [row["cpu_s"] for row in digits],
        "wall_s": [row["wall_s"] for row in digits], "stopping": found["stopping"],
    }  # fmt: skip


def small_images() -> list[Values]:
    """For each set, time and arm: accuracies by seed, means over the seeds, and how many kept the residual cell. The search comes first."""
    rows = sorted(
        read_result("small_images").get("rows", []),
        key=lambda row: (row["set"], row["minutes"], row["arm"] != "search", row["arm"], row["seed"]),
    )
    found: list[Values] = []
    for (name, minutes, arm), group in groupby(rows, key=lambda row: (row["set"], row["minutes"], row["arm"])):
        own = list(group)
        found.append({
            "set": name, "minutes": minutes, "arm": arm, "by_seed": {row["seed"]: row["test_accuracy"] for row in own},
            "residual": sum(row["arch"] == NASBench201.resnet_like for row in own) if any(row["labels"] for row in own) else None,
            **{key: _mean([row[key] for row in own]) for key in ("test_accuracy", "labels", "epochs")}, "wall_s": max(row["wall_s"] for row in own),
        })  # fmt: skip
    return found


def mixed_images() -> list[Values]:
    """For each set and time, test accuracies without mixing and with it, seed by seed."""
    rows = read_result("mixed_images").get("rows", [])
    found: list[Values] = []
    for name, seconds in sorted({(row["set"], row["seconds_given"]) for row in rows}):
        plain, mixed = (
            {row["seed"]: row for row in rows if (row["set"], row["seconds_given"], row["mix"] > 0) == (name, seconds, mixes)}
            for mixes in (False, True)
        )  # fmt: skip
        if seeds := sorted(plain.keys() & mixed.keys()):
            found.append({
                "set": name, "seconds": seconds, "epochs": _mean([plain[seed]["epochs"] for seed in seeds]),
                **{key: [part[seed]["test_accuracy"] for seed in seeds] for key, part in (("plain", plain), ("mixed", mixed))},
            })  # fmt: skip
    return found


def head_starts() -> list[Values]:
    """For each set and time, what a search compares, and test accuracies from shipped weights and from random ones; lists are seed by seed."""
    rows = read_result("head_starts").get("rows", [])
    found: list[Values] = []
    for name, seconds in sorted({(row["set"], row["seconds_given"]) for row in rows}):
        own = sorted((row for row in rows if (row["set"], row["seconds_given"]) == (name, seconds)), key=lambda row: row["seed"])
        judged = [row for row in own if row["arm"] == "judged"]
        found.append({
            "set": name, "seconds": seconds, **{key: [row[key] for row in judged] for key in ("known", "learned", "pays")},
            **{arm: [row for row in own if row["arm"] == arm] for arm in ("started", "random")},
        })  # fmt: skip
    return found


def elastic_fronts() -> Values:
    """Mean volumes of each arm, the number of members, and in how many seeds the search covers more test accuracy than each other arm."""
    rows = read_result("elastic_fronts").get("rows", [])
    if not rows:
        return {}
    arms = {}
    for arm in rows[0]["arms"]:
        fronts = [row["arms"][arm] for row in rows]
        ahead = sum(row["arms"]["search"]["test_volume"] > row["arms"][arm]["test_volume"] for row in rows)
        means = {f"{part}_volume": _mean([front[f"{part}_volume"] for front in fronts]) for part in ("validation", "test")}
        arms[arm] = {**means, "members": [len(front["members"]) for front in fronts], "ahead": ahead}
    return {"seeds": len(rows), "labels": rows[0]["labels"], "arms": arms}


def _mean(values: Sequence[float]) -> float:
    """The arithmetic mean."""
    return sum(values) / len(values)
