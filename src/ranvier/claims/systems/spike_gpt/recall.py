"""Long memory of SpikeGPT: the first token must be named after many others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ranvier.claims import Arm, Bound, Claim, Metric, Outcome, Scale, Trial
from ranvier.claims.systems.spike_gpt.text import PAPER, SPIKING, TWIN

if TYPE_CHECKING:
    from torch import Tensor

CLASSES, DISTRACTORS, GAP = 8, 8, 38


def _batch(count: int, generator: object) -> tuple[Tensor, Tensor]:
    """Ids `[T, B]`: a class, distractors, a question mark; and the classes."""
    import torch

    assert isinstance(generator, torch.Generator)
    wanted = torch.randint(CLASSES, (count,), generator=generator)
    between = CLASSES + torch.randint(DISTRACTORS, (GAP, count), generator=generator)
    question = torch.full((1, count), CLASSES + DISTRACTORS)
    return torch.cat([wanted.unsqueeze(0), between, question]), wanted


def run(trial: Trial) -> Outcome:
    """Accuracy on fresh sequences after training."""
    import torch
    import torch.nn.functional as F

    from ranvier.models import SpikeGPT

    assert trial.arm is not None
    options = {key: value for key, value in trial.arm.settings.items() if key != "kind"}
    torch.manual_seed(trial.seed)
    net = SpikeGPT(CLASSES + DISTRACTORS + 1, n_layer=2, n_embd=32, dropout=0.0, **options)
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(trial.seed)
    curve: list[tuple[float, float]] = []
    for t in range(trial.settings["steps"]):
        ids, wanted = _batch(32, generator)
        logits = net(ids)[-1, :, :CLASSES]
        optimizer.zero_grad()
        F.cross_entropy(logits, wanted).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        if t % 10 == 0:
            curve.append((float(t), 100 * float((logits.argmax(-1) == wanted).double().mean())))
    net.eval()
    with torch.no_grad():
        ids, wanted = _batch(512, torch.Generator().manual_seed(10_000 + trial.seed))
        right = net(ids)[-1, :, :CLASSES].argmax(-1) == wanted
    return Outcome({"accuracy": 100 * float(right.double().mean())}, {"training accuracy": curve})


CLAIM = Claim(
    name="spike_gpt_recall",
    title="Long memory sits in WKV, not in the membranes",
    system="spike_gpt",
    paper=PAPER,
    statement="The recurrence over tokens replaces attention: the network remembers what it has read.",
    question="One of eight classes is shown, then 38 distractors, then the question. Which part remembers it?",
    data="simulated on purpose: the distance to the answer is known",
    arms=(
        TWIN,
        SPIKING,
        Arm("no_membrane", "spiking, membranes empty at every token", {"kind": "spike_gpt", "membrane": False}),
        Arm("no_wkv", "spiking, without WKV: memory in the membranes only", {"kind": "spike_gpt", "attend": False}),
    ),
    metrics=(Metric("accuracy", "Classes named after 38 distractors (chance 12.5)", "%", True, 1),),
    rules=(
        Bound("accuracy", "spiking", at_least=99),
        Bound("accuracy", "no_wkv", at_most=20),
        Bound("accuracy", "no_membrane", at_least=99, essential=False),
    ),
    scales={
        "quick": Scale((0, 1, 2), 4, {"steps": 400}),
        "full": Scale((0, 1, 2, 3, 4), 15, {"steps": 1000}),
    },
    run=run,
)  # fmt: skip
