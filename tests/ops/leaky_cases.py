"""Options of the leaky scan that together touch every branch of the kernels, and a few meetings of branches."""

from __future__ import annotations

from ranvier.ops import LeakyDynamics
from ranvier.surrogates import Atan, Rectangle, StraightThrough, Triangle

IE = {"levels": 4, "input_scale": 4.0, "output_scale": 0.5}
CASES = [
    LeakyDynamics(),
    LeakyDynamics(soft_reset=True, detach_reset=False, surrogate=Atan(3.0)),
    LeakyDynamics(decay_input=False, v_reset=-0.1, detach_reset=False, surrogate=Atan()),
    LeakyDynamics(v_reset=0.2, surrogate=Triangle(1.5)),
    LeakyDynamics(decay_input=False, soft_reset=True, surrogate=Rectangle(1.3)),
    LeakyDynamics(detach_reset=False, surrogate=StraightThrough()),
    LeakyDynamics(soft_reset=True, **IE),
    LeakyDynamics(soft_reset=True, decay_input=False, detach_reset=False, half_even=True, **IE),
    LeakyDynamics(v_reset=-0.2, detach_reset=False, levels=2),
    LeakyDynamics(decay_input=False, levels=3, half_even=True, input_scale=2.0),
]


def case_id(case: LeakyDynamics) -> str:
    kind = f"integer{case.levels}" if case.levels else case.surrogate.name
    return "-".join(
        [kind, "soft" if case.soft_reset else "hard", "detached" if case.detach_reset else "attached"]
        + (["plain_input"] if not case.decay_input else [])
    )
