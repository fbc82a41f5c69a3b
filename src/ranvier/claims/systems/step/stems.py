"""Is it the number of convolutions in the stem, their kind, or the position code?"""

from __future__ import annotations

from ranvier.claims import Arm, Claim, Order, Scale
from ranvier.claims.systems.step.mini import ACCURACY, DATA, FULL, PAPER, RATE, RELU, SETTINGS, run

STEMS = Claim(
    name="step_stems",
    title="The convolutional stem carries the accuracy",
    system="step",
    paper=PAPER + ", table of components",
    statement="Cutting the stem of Spikformer from four convolutions to one takes CIFAR-10 from 95.1 to 78.2 %, with "
    "two "
    "it is 91.9 %; the non-spiking twin loses only 5.6 points.",
    question="The published 1-conv stem differs in three things at once: it has fewer convolutions, it cuts patches "
    "instead of pooling overlapping windows, and it has a table in place of the position convolution. One at a time "
    "here, and with ReLU.",
    data=DATA,
    arms=(
        Arm("four", "four convolutions", {"stem": "wide4"}),
        Arm("two", "two convolutions", {"stem": "conv2"}),
        Arm("one", "one overlapping convolution and pools", {"stem": "conv1"}),
        Arm("one_bare", "one overlapping convolution, no position code", {"stem": "conv1", "position": "none"}),
        Arm("patches", "patches and a table: the published 1-conv stem", {"stem": "patchify"}),
        Arm("patches_conv", "patches and a position convolution", {"stem": "patchify", "position": "conv"}),
        Arm("relu_four", "ReLU: four convolutions", {"stem": "wide4", **RELU}),
        Arm("relu_patches", "ReLU: patches and a table", {"stem": "patchify", **RELU}),
    ),
    metrics=(ACCURACY, RATE),
    rules=(
        Order("accuracy", ("two", "four")),
        Order("accuracy", ("patches", "two")),
        Order("accuracy", ("patches", "one"), essential=False),
        Order("accuracy", ("one_bare", "one"), essential=False),
        Order("accuracy", ("patches", "patches_conv"), essential=False),
        Order("accuracy", ("relu_patches", "relu_four"), essential=False),
    ),
    scales={"quick": Scale(seeds=(0, 1, 2), minutes=10, settings=SETTINGS), "full": FULL},
    run=run,
    comment="The essential rules are the published order. The others say which of the three differences it is: where "
    "'one' beats 'patches' the kind of the stem decides and not its depth.",
)  # fmt: skip
