"""The order in which the nodes of a graph run, and the edges that close its cycles."""

from __future__ import annotations

from collections.abc import Sequence

Edge = tuple[str, str]


def components(nodes: Sequence[str], edges: Sequence[Edge]) -> list[list[str]]:
    """The strongly connected components of a graph, sources first (Tarjan, without recursion)."""
    after: dict[str, list[str]] = {node: [] for node in nodes}
    for a, b in edges:
        if a in after and b in after:
            after[a].append(b)
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    on_stack: set[str] = set()
    found: list[list[str]] = []
    for root in nodes:
        if root in index:
            continue
        index[root] = low[root] = len(index)
        stack.append(root)
        on_stack.add(root)
        work = [(root, iter(after[root]))]
        while work:
            node, following = work[-1]
            child = next(following, None)
            if child is None:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    group = [stack.pop()]
                    while group[-1] != node:
                        group.append(stack.pop())
                    on_stack -= set(group)
                    found.append(group[::-1])
            elif child not in index:
                index[child] = low[child] = len(index)
                stack.append(child)
                on_stack.add(child)
                work.append((child, iter(after[child])))
            elif child in on_stack:
                low[node] = min(low[node], index[child])
    return found[::-1]


def feedback_edges(group: Sequence[str], edges: Sequence[Edge], waiting: set[str]) -> tuple[list[str], list[Edge]]:
    """The order in which the nodes of a cycle run in a step, and the edges that carry the value of the step before.

    Edges into `waiting` nodes (delays) come first; other cycles are cut where a walk from the entries returns.
    """
    inside = set(group)
    own = [(a, b) for a, b in edges if a in inside and b in inside]
    feedback = [edge for edge in own if edge[1] in waiting]
    entries = [n for n in group if any(b == n and a not in inside for a, b in edges)] or list(group[:1])
    after: dict[str, list[str]] = {n: [] for n in group}
    for a, b in own:
        if b not in waiting:
            after[a].append(b)
    state: dict[str, int] = {}  # 1 while it is on the path, 2 when done
    order: list[str] = []
    for root in [*waiting, *entries, *group]:
        if root in state:
            continue
        state[root] = 1
        work = [(root, iter(after[root]))]
        while work:
            node, following = work[-1]
            child = next(following, None)
            if child is None:
                state[node] = 2
                order.append(node)
                work.pop()
            elif child not in state:
                state[child] = 1
                work.append((child, iter(after[child])))
            elif state[child] == 1:
                feedback.append((node, child))
    return order[::-1], feedback
