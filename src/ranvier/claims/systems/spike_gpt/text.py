"""What spikes cost a small language model on text, and where its memory sits: the same size, data and training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ranvier.claims import Arm, Claim, Metric, Order, Outcome, Ratio, Scale, Trial

if TYPE_CHECKING:
    from torch import Tensor, nn

PAPER = "R.-J. Zhu et al. (TMLR 2024), SpikeGPT, arXiv 2302.13939, tables 1 and 3"


@lru_cache(maxsize=1)
def shakespeare() -> tuple[Tensor, Tensor, int]:
    """Training and test ids of tiny Shakespeare (90 % and 10 %) and the number of characters."""
    import numpy as np
    import torch

    from ranvier import data

    bundle = data.load("tinyshakespeare", length=1)
    assert bundle.validation is not None
    train = np.concatenate([bundle.train.tokens, bundle.validation.tokens])  # pyright: ignore[reportAttributeAccessIssue]
    test = bundle.test.tokens  # pyright: ignore[reportAttributeAccessIssue]
    return torch.from_numpy(train.astype(np.int64)), torch.from_numpy(test.astype(np.int64)), bundle.num_classes


def build(arm: Mapping[str, Any], vocab: int, settings: Mapping[str, Any]) -> nn.Module:
    """The net of an arm; all have about as many parameters."""
    from ranvier.claims.controls.gru import GRULanguageModel
    from ranvier.claims.controls.transformer import CausalTransformer
    from ranvier.models import SpikeGPT

    width, context = settings["width"], settings["context"]
    if arm["kind"] == "gru":
        return GRULanguageModel(vocab, width, settings["gru"])
    if arm["kind"] == "transformer":
        return CausalTransformer(vocab, 2, width, 4, context, inner=settings["inner"])
    options = {key: value for key, value in arm.items() if key != "kind"}
    return SpikeGPT(vocab, n_layer=2, n_embd=width, dropout=0.0, **options)


def train(net: nn.Module, settings: Mapping[str, Any], seed: int) -> list[tuple[float, float]]:
    """Adam at 3e-3 falling as a cosine, norm clipped to 1, on random windows; the curve in bits a character."""
    import torch

    from ranvier.claims.systems.spam.arms import cosine
    from ranvier.train import next_token_loss

    text, _, _ = shakespeare()
    steps, context, batch = settings["steps"], settings["context"], settings["batch"]
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3, betas=(0.9, 0.99))
    generator = torch.Generator().manual_seed(seed)
    curve: list[tuple[float, float]] = []
    net.train()
    for t in range(steps):
        starts = torch.randint(len(text) - context - 1, (batch,), generator=generator).tolist()
        windows = torch.stack([text[s : s + context + 1] for s in starts])
        loss = next_token_loss(net(windows[:, :-1].T), windows[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        cosine(optimizer, 3e-3, t, steps, least=0.01)
        optimizer.step()
        if t % 10 == 0:
            curve.append((float(t), loss.item() / math.log(2)))
    net.eval()
    return curve


def bits(net: nn.Module, settings: Mapping[str, Any]) -> float:
    """Bits a character on the test text, windows from an empty state, each of `context` characters."""
    import torch

    from ranvier.train import next_token_loss

    _, text, _ = shakespeare()
    context = settings["context"]
    count = min((len(text) - 1) // context, settings["windows"])
    total = 0.0
    with torch.no_grad():
        for first in range(0, count, 64):
            starts = range(first * context, min(first + 64, count) * context, context)
            windows = torch.stack([text[s : s + context + 1] for s in starts])
            total += next_token_loss(net(windows[:, :-1].T), windows[:, 1:]).item() * len(windows)
    return total / count / math.log(2)


def run(trial: Trial) -> Outcome:
    """Train the net of the arm and read the test text."""
    import torch

    from ranvier.train.rates import RateMeter

    assert trial.arm is not None
    torch.manual_seed(trial.seed)
    net = build(trial.arm.settings, shakespeare()[2], trial.settings)
    curve = train(net, trial.settings, trial.seed)
    meter = RateMeter(net)
    with meter.watching():
        found = bits(net, {**trial.settings, "windows": 64})
    rate = meter.take()
    if trial.settings["windows"] != 64:
        found = bits(net, trial.settings)
    size = sum(p.numel() for p in net.parameters())
    return Outcome({"bits": found, "rate": 100 * (rate or 0.0), "parameters": size / 1000}, {"training": curve})


SPIKING = Arm("spiking", "SpikeGPT as published: the results of the mixers become spikes", {"kind": "spike_gpt"})
TWIN = Arm(
    "continuous", "the same weights without spikes: RWKV-4", {"kind": "spike_gpt", "spike_position": "none"}
)  # fmt: skip
CLAIM = Claim(
    name="spike_gpt_text",
    title="A spiking language model on text, beside its continuous twin",
    system="spike_gpt",
    paper=PAPER,
    statement="SpikeGPT reaches language modelling close to that of non-spiking models of its size.",
    question="At equal parameters, steps and tuning: what do spikes cost in bits a character, what does the position that hardware needs cost, and does the memory sit in WKV or in the membranes?",  # noqa: E501
    data="tiny Shakespeare by characters: first 90 % training, last 10 % test",
    arms=(
        TWIN,
        SPIKING,
        Arm(
            "spikes_before", "every linear layer receives spikes, as hardware without multipliers needs",
            {"kind": "spike_gpt", "spike_position": "input"},
        ),
        Arm("no_wkv", "spiking, without WKV: memory in the membranes only", {"kind": "spike_gpt", "attend": False}),
        Arm("no_membrane", "spiking, membranes empty at every token", {"kind": "spike_gpt", "membrane": False}),
        Arm("gru", "a GRU of the same number of parameters", {"kind": "gru"}),
        Arm("transformer", "a causal transformer of the same number of parameters", {"kind": "transformer"}),
    ),
    metrics=(
        Metric("bits", "Test text", "bits a character", False, 3),
        Metric("rate", "Firing rate of the neurons", "%", None, 1),
        Metric("parameters", "Parameters", "thousand", None, 1),
    ),
    rules=(
        Order("bits", ("continuous", "spiking", "no_wkv")),
        Ratio("bits", "spiking", "continuous", at_most=1.1),
        Order("bits", ("spiking", "spikes_before"), essential=False),
        Order("bits", ("spiking", "no_membrane"), essential=False),
        Order("bits", ("spiking", "gru"), essential=False),
    ),
    scales={
        "quick": Scale(
            (0, 1, 2), 12,
            {"steps": 500, "context": 96, "batch": 12, "width": 64, "gru": 155, "inner": 262, "windows": 256},
        ),
        "full": Scale(
            (0, 1, 2, 3, 4), 150,
            {"steps": 3000, "context": 128, "batch": 16, "width": 64, "gru": 155, "inner": 262, "windows": 10_000},
        ),
    },
    run=run,
)  # fmt: skip
