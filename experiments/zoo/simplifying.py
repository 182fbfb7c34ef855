"""Leave out what is no node of its own: the head, gates spelled out, normalisations and activations."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.zoo.folding import LeftOut, Node

HEAD_STEPS = ("conv", "act", "norm", "grouped")
"""What a gate computes its factors with."""


def simplified(nodes: Sequence[Node], output: Node) -> list[Node]:
    """The nodes that the output depends on, in their order, without its head; the last one is what the head reads. Raises `LeftOut`."""
    for node in nodes:
        _as_gate(node)
    kept = _needed(nodes, output)
    head: set[Node] = set()
    for node in kept:
        if node.kind == "pooled" or head.intersection(node.inputs):
            head.add(node)
    if output not in head:
        raise LeftOut("no pooling of all pixels before the output")
    ends = list(dict.fromkeys(source for node in kept if node in head for source in node.inputs if source not in head))
    if len(ends) != 1:
        raise LeftOut("a head that reads several maps, or a gate that is not known")
    found, end = _without_norms(_needed(nodes, ends[0]), ends[0])
    for node in found:
        node.inputs = list(dict.fromkeys(node.inputs))
        if node.kind == "add" and all(source.kind == "conv" and source.inputs[0].kind == "input" for source in node.inputs):
            largest = max(node.inputs, key=lambda source: source.kernel)  # the branches of a stem are one convolution once they are trained
            node.kind, node.kernel, node.inputs = "conv", largest.kernel, largest.inputs
    return _needed(_joined_once(found, end), end)


def _needed(nodes: Sequence[Node], end: Node) -> list[Node]:
    kept = {end}
    for node in reversed(nodes):
        if node in kept:
            kept.update(node.inputs)
    return [node for node in nodes if node in kept]


def _as_gate(node: Node) -> None:
    """Turn a product of a map and of what is computed from its means into a gate."""
    if node.kind != "multiply" or len(node.inputs) != 2:
        return
    for x, factor in (node.inputs, node.inputs[::-1]):
        while factor.kind in HEAD_STEPS and factor.side <= 1:
            factor = factor.inputs[0]
        if factor.kind == "pooled" and factor.inputs == [x]:
            node.kind, node.inputs, node.channels, node.side = "gate", [x], x.channels, x.side
            return


def _without_norms(nodes: Sequence[Node], end: Node) -> tuple[list[Node], Node]:
    """Fold normalisations and activations, and sums of one term, into the node before them.

    Where others read that node as well, an activation goes into all nodes behind that are convolutions, if they are alone.
    """
    behind: dict[Node, list[Node]] = {node: [] for node in nodes}
    for node in nodes:
        for source in node.inputs:
            behind[source].append(node)
    for node in nodes:
        single = node.kind in ("add", "multiply", "concat") and len(set(node.inputs)) == 1
        if node.kind not in ("norm", "act") and not single:
            continue
        before, users = node.inputs[0], behind[node]
        if node.active and before.kind != "input":
            if len(set(behind[before])) > 1 and users and all(user.kind in ("conv", "depthwise", "grouped", "attention", "window") for user in users):
                for user in users:
                    user.active = True
            elif before is not end or node is end:
                before.active = True
        behind[before] = [user for user in behind[before] if user is not node] + users
        for user in users:
            user.inputs = [before if source is node else source for source in user.inputs]
        if node is end:
            end = before
    return [node for node in nodes if node.kind not in ("norm", "act")], end


def _joined_once(nodes: list[Node], end: Node) -> list[Node]:
    """Put sums of sums, and concatenations of concatenations, together where nothing else reads the inner one."""
    readers: dict[Node, int] = dict.fromkeys(nodes, 0)
    for node in nodes:
        for source in node.inputs:
            readers[source] += 1
    for node in nodes:
        if node.kind in ("add", "concat"):
            inner = {
                source for source in node.inputs
                if source.kind == node.kind and not source.active and readers[source] == 1 and source is not end
            }  # fmt: skip
            flat = [each for source in node.inputs for each in (source.inputs if source in inner else [source])]
            if len(set(flat)) == len(flat):
                node.inputs = flat
    return nodes
