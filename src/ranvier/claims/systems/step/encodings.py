"""Direct, rate, latency and phase coding of static images at few and at many steps."""

from __future__ import annotations

from ranvier.claims import Arm, Claim, Order, Scale
from ranvier.claims.systems.step.mini import ACCURACY, DATA, FULL, PAPER, RATE, SETTINGS, run

ENCODINGS = Claim(
    name="step_encodings",
    title="Direct coding beats rate, phase and latency coding at four steps",
    system="step",
    paper=PAPER + ", table of encodings",
    statement="With four steps direct coding is 10 to 13 points better than rate, phase and latency (TTFS) coding on "
    "CIFAR-10.",
    question="Four steps of a rate code hold two bits a pixel. Does the distance shrink with sixteen steps? The "
    "encoders "
    "are those of the paper on images in [0, 1], before any standardisation.",
    data=DATA,
    arms=(
        Arm("direct", "direct, T = 4", {}),
        Arm("rate", "rate, T = 4", {"encoder": "rate"}),
        Arm("ttfs", "time to first spike, T = 4", {"encoder": "ttfs"}),
        Arm("phase", "phase, T = 4", {"encoder": "phase"}),
        Arm("direct_16", "direct, T = 16", {"T": 16}),
        Arm("rate_16", "rate, T = 16", {"encoder": "rate", "T": 16}),
    ),
    metrics=(ACCURACY, RATE),
    rules=(
        Order("accuracy", ("rate", "direct")),
        Order("accuracy", ("ttfs", "direct")),
        Order("accuracy", ("phase", "direct")),
        Order("accuracy", ("rate", "rate_16"), essential=False),
        Order("accuracy", ("rate_16", "direct_16"), essential=False),
    ),
    scales={
        "quick": Scale(
            seeds=(0, 1, 2), minutes=10, settings={**SETTINGS, "train": 1280, "test": 1000, "epochs": 4},
            note="1,280 training and 1,000 test images, four epochs, for the long sequences",
        ),
        "full": FULL,
    },
    run=run,
)  # fmt: skip
