"""Neurons with the threshold behind the attention held equal, and surrogates that really act."""

from __future__ import annotations

from typing import Any

from ranvier.claims import Arm, Claim, Close, Order, Scale
from ranvier.claims.systems.step.mini import ACCURACY, DATA, FULL, PAPER, RATE, SETTINGS, run

# A threshold of 1 behind a product scaled by 0.25 is one of 0.5 behind 0.125, and every neuron can have it.
EQUAL: dict[str, Any] = {"attn_threshold": None, "scale": 0.25}


def _neuron(name: str, description: str, spec: str | dict[str, Any]) -> Arm:
    return Arm(name, description, {**EQUAL, "neuron": spec})


NEURONS = Claim(
    name="step_neurons",
    title="Richer neurons beat LIF in a spiking transformer",
    system="step",
    paper=PAPER + ", table of neurons",
    statement="PLIF, KLIF, GLIF and CLIF raise Spikformer on CIFAR-10 from 95.1 % (LIF) to 95.4 to 96.1 %.",
    question="In the published grid CLIF and GLIF ignore the threshold of 0.5 behind the attention, so that neuron and "
    "threshold change together, and GLIF's gates are frozen at zero. Here the threshold is the same for all (θ = 1 "
    "with "
    "the doubled scale) and the gates learn; IF and PSN are there too.",
    data=DATA,
    arms=(
        _neuron("lif", "LIF", "lif"),
        _neuron("if", "IF", "if"),
        _neuron("plif", "PLIF", "plif"),
        _neuron("klif", "KLIF", "klif"),
        _neuron("clif", "CLIF", "clif"),
        _neuron("glif", "GLIF with gates that learn", "glif"),
        _neuron("psn", "PSN, started as LIF without reset", {"type": "psn", "steps": 4, "tau": 2.0}),
    ),
    metrics=(ACCURACY, RATE),
    rules=(
        Order("accuracy", ("lif", "plif")),
        Order("accuracy", ("lif", "klif")),
        Order("accuracy", ("lif", "clif")),
        Order("accuracy", ("lif", "glif")),
        Order("accuracy", ("if", "lif"), essential=False),
        Order("accuracy", ("lif", "psn"), essential=False),
    ),
    scales={"quick": Scale(seeds=(0, 1, 2), minutes=10, settings=SETTINGS), "full": FULL},
    run=run,
    comment="GLIF keeps its own initial threshold of 0.5, which it learns.",
)  # fmt: skip


def _surrogate(name: str, description: str, **spec: Any) -> Arm:
    return Arm(name, description, {"neuron": {"type": "lif", "surrogate": spec}})


SURROGATES = Claim(
    name="step_surrogates",
    title="The surrogate gradient hardly matters",
    system="step",
    paper=PAPER + ", table of surrogates",
    statement="Sigmoid and QGate surrogates with slopes of 2 and 4 give Spikformer 95.09 to 95.12 % on CIFAR-10.",
    question="In the published code the setting never reached the neurons: the table compares runs of one surrogate. "
    "Here it acts; slopes of 0.5 and 16 must show it.",
    data=DATA,
    arms=(
        _surrogate("sigmoid_4", "sigmoid, slope 4", type="sigmoid", alpha=4.0),
        _surrogate("sigmoid_2", "sigmoid, slope 2", type="sigmoid", alpha=2.0),
        _surrogate("sigmoid_05", "sigmoid, slope 0.5", type="sigmoid", alpha=0.5),
        _surrogate("sigmoid_16", "sigmoid, slope 16", type="sigmoid", alpha=16.0),
        _surrogate("atan_2", "arctangent, slope 2", type="atan", alpha=2.0),
        _surrogate("qgate_2", "triangle (QGate), slope 2", type="triangle", alpha=2.0),
        _surrogate("rectangle_1", "rectangle, width 1", type="rectangle", width=1.0),
    ),
    metrics=(ACCURACY, RATE),
    rules=(
        Close("accuracy", "sigmoid_2", "sigmoid_4", within=2),
        Close("accuracy", "qgate_2", "sigmoid_4", within=2),
        Order("accuracy", ("sigmoid_05", "sigmoid_4"), essential=False),
        Order("accuracy", ("sigmoid_16", "sigmoid_4"), essential=False),
        Close("accuracy", "atan_2", "sigmoid_4", within=2, essential=False),
        Close("accuracy", "rectangle_1", "sigmoid_4", within=2, essential=False),
    ),
    scales={"quick": Scale(seeds=(0, 1, 2), minutes=10, settings=SETTINGS), "full": FULL},
    run=run,
)  # fmt: skip
