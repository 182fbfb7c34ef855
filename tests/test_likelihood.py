"""The likelihood command: what it writes, and one sentence for bad input."""

from __future__ import annotations

import json

import numpy as np
import pytest

from diffnag import generate, likelihood
from diffnag.errors import UserError
from diffnag.generators.loading import load_generator
from diffnag.generators.network import shipped_network

CELL = "|nor_conv_3x3~0|+|nor_conv_1x1~0|avg_pool_3x3~1|+|skip_connect~0|none~1|nor_conv_3x3~2|"


def test_samples_of_generate_get_log_probabilities(tmp_path, space, capsys):
    samples, out = tmp_path / "archs.jsonl", tmp_path / "nats.jsonl"
    generate.main(["--n", "64", "--out", str(samples), "--device", "cpu"])
    likelihood.main([str(samples), "--generator", "autoregressive", "--out", str(out)])
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["arch"] for row in rows] == [arch for line in samples.read_text().splitlines() if (arch := json.loads(line)["arch"])]
    exact = load_generator(space, "autoregressive").log_prob([space.from_str(row["arch"]) for row in rows]).nats
    assert [row["nats"] for row in rows] == pytest.approx(exact.tolist()) and {row["kind"] for row in rows} == {"exact"}
    assert f"mean log probability {exact.mean():.4f} nats (exact)" in capsys.readouterr().out


def test_invalid_samples_are_counted_and_blank_lines_are_not(tmp_path, capsys):
    lines = [json.dumps({"arch": CELL}), "", json.dumps({"arch": None, "reason": "node 1 has two operators"}), json.dumps({"arch": CELL})]
    (tmp_path / "archs.jsonl").write_text("\n".join(lines))
    likelihood.main([str(tmp_path / "archs.jsonl"), "--generator", "uniform"])
    assert capsys.readouterr().out == f"2 architectures: mean log probability {-np.log(15625):.4f} nats (exact); 1 invalid sample was skipped\n"


@pytest.mark.parametrize(
    ("content", "arguments", "sentence"),
    [
        (None, [], r"cannot read .*archs.jsonl: No such file or directory"),
        (b"\xff\xfe", [], r"archs.jsonl is no text; expected are lines of JSON with the key arch"),
        (b"{", [], r"archs.jsonl, line 1 is no JSON"),
        (b"[1]", [], r"line 1 has no text or null under the key arch"),
        (b'{"arch": 3}', [], r"line 1 has no text or null under the key arch"),
        (b'{"arch": null}', [], r"archs.jsonl has no valid architecture"),
        (b"", [], r"archs.jsonl has no valid architecture"),
        (json.dumps({"arch": CELL}).encode(), ["--space", "nasbench101"], r"archs.jsonl, line 1: .* is no NAS-Bench-101 string"),
        (json.dumps({"arch": CELL}).encode(), ["--generator", "tests.test_likelihood:Silent"], r"does not know how probable an architecture is"),
        (json.dumps({"arch": CELL}).encode(), ["--checkpoint", str(shipped_network("nasbench201", "sde"))], "is a generator of family 'sde'"),
        (json.dumps({"arch": CELL}).encode(), ["--out", "/"], r"cannot write /"),
    ],
)
def test_bad_input(tmp_path, content, arguments, sentence):
    path = tmp_path / "archs.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=sentence):
        likelihood.main([str(path), "--generator", "autoregressive", *arguments])


class Silent:
    """A family whose generators know no probabilities."""

    Sampling = None

    def load(self, space, path=None, *, device="cpu"):
        return object()
