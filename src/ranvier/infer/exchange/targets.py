"""What the readers of NIR graphs make of a node: the definition, and what each library asks for."""

from __future__ import annotations

from dataclasses import dataclass

from ranvier.errors import ArgumentError, nearest


@dataclass(frozen=True)
class Target:
    """How graphs are written for one reader.

    Attributes:
        name: of the reader.
        dt: seconds a step that it assumes.
        nodes: kinds of nodes that it reads, None for all.
        resistance: "kept" in the neurons; "folded" into the weights before them, for a reader that ignores it.
        strict: whether it compares v > θ, as NIR defines it, so that v ≥ θ is written with the number under θ.
        if_resistance: "per_second" as the definition has it (1/dt), "one" for a reader that takes v ← v + R x.
        resets: "hard" or "soft", what its neurons do.
        exponential: the reader decays by exp(−1/τ) with τ in steps, and does not scale the input.
        groups: whether it reads grouped convolutions; others get them written out.
        images: whether its neurons may lie on images, not only on vectors.
    """

    name: str
    dt: float = 1e-4
    nodes: frozenset[str] | None = None
    resistance: str = "kept"
    strict: bool = True
    if_resistance: str = "per_second"
    resets: str = "hard"
    exponential: bool = False
    groups: bool = True
    images: bool = True


_PLAIN = frozenset({"Input", "Output", "Affine", "Conv2d", "Flatten", "LIF"})
TARGETS = {
    target.name: target
    for target in (
        Target("nir"),
        Target("spikingjelly", nodes=_PLAIN | {"IF", "CubaLIF", "AvgPool2d", "Linear", "Conv1d"}, groups=False),
        Target("snntorch", nodes=_PLAIN | {"AvgPool2d"}, groups=False),
        Target(
            "norse",
            dt=1e-3,
            nodes=_PLAIN | {"IF", "SumPool2d"},
            resistance="folded",
            if_resistance="one",
            groups=False,
        ),
        Target(
            "sinabs",
            nodes=_PLAIN | {"SumPool2d"},
            resistance="folded",
            strict=False,
            resets="soft",
            exponential=True,
            groups=False,
            images=False,
        ),
    )
}


def find_target(name: str) -> Target:
    """The target `name`; `ArgumentError` with the known ones otherwise."""
    if name not in TARGETS:
        raise ArgumentError(f"target {name!r} is not known{nearest(name, TARGETS)}")
    return TARGETS[name]
