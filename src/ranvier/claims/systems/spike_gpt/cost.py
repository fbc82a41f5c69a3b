"""What SpikeGPT multiplies and adds: as it is built, and as the publication counts it."""

from __future__ import annotations

from collections.abc import Mapping

from ranvier.claims import Arm, Bound, Claim, Metric, Outcome, Scale, Trial
from ranvier.claims.systems.spike_gpt.text import shakespeare, train

MAC_PJ, AC_PJ = 4.5, 0.9


def published_ratio(layers: int, dim: int, vocab: int, rate: float, tokens: int) -> float:
    """Energy of the transformer over that of SpikeGPT for each token, by the publication's formula.

    Projections are charged as additions at the firing rate in SpikeGPT and as multiplications in the transformer, whose
    attention also costs 2 T d; WKV costs 6 d multiplications. Both have the same dense head here.
    """
    projections = layers * 12 * dim * dim
    head = vocab * dim
    transformer = MAC_PJ * (projections + layers * 2 * tokens * dim + head)
    spiking = AC_PJ * rate * layers * 13 * dim * dim + MAC_PJ * (layers * 6 * dim + head)
    return transformer / spiking


def run(trial: Trial) -> Mapping[str, Outcome]:
    """Train briefly, then count what enters every matrix product while the test text is read."""
    import torch

    from ranvier import measure
    from ranvier.models import SpikeGPT

    _, text, vocab = shakespeare()
    ids = text[: 4 * 128].view(4, 128).T
    outcomes: dict[str, Outcome] = {}
    dense = 0.0
    for arm in trial.arms:
        torch.manual_seed(trial.seed)
        position = arm.settings["spike_position"]
        net = SpikeGPT(vocab, n_layer=2, n_embd=trial.settings["width"], dropout=0.0, spike_position=position)
        train(net, trial.settings, trial.seed)
        report = measure.count(net, ids, time_first=True)
        macs = sum(row.macs_dense for row in report.rows if not row.additions_only) / len(ids)
        acs = sum(row.synops for row in report.rows if row.additions_only) / len(ids)
        rates = [neuron.rate for neuron in report.neurons]
        rate = sum(rates) / len(rates) if rates else 0.0
        energy = MAC_PJ * macs + AC_PJ * acs
        dense = dense or energy  # the continuous twin comes first
        published = published_ratio(18, 768, 50277, rate, 1024) if rates else 1.0
        outcomes[arm.name] = Outcome({
            "saving": dense / energy, "published": published, "macs": macs / 1e3, "acs": acs / 1e3, "rate": 100 * rate,
        })  # fmt: skip
    return outcomes


CLAIM = Claim(
    name="spike_gpt_cost",
    title="What the spikes of SpikeGPT save, as built",
    system="spike_gpt",
    paper="R.-J. Zhu et al. (TMLR 2024), SpikeGPT, arXiv 2302.13939, section on energy",
    statement="SpikeGPT needs 32.2 times fewer operations than a transformer, because its layers compute with spikes.",
    question="What enters every matrix product while a trained model reads text? A product with real inputs costs a multiplication (4.5 pJ) for each weight, one with spikes an addition (0.9 pJ) for each spike and weight. Beside it the publication's formula for the 216 M model at the measured rate.",  # noqa: E501
    data="tiny Shakespeare by characters: first 90 % training, 512 characters of the last 10 % are read",
    arms=(
        Arm("continuous", "no spikes: RWKV-4", {"spike_position": "none"}),
        Arm("spiking", "SpikeGPT as published", {"spike_position": "output"}),
        Arm("spikes_before", "every linear layer in the blocks receives spikes", {"spike_position": "input"}),
    ),
    metrics=(
        Metric("saving", "Energy of the continuous twin over that of the arm, as built", "times", True, 2),
        Metric("published", "Saving by the publication's formula, 216 M model at this rate", "times", True, 2),
        Metric("macs", "Multiply-accumulates a token, as built", "thousand", False, 1),
        Metric("acs", "Accumulates a token, as built", "thousand", None, 1),
        Metric("rate", "Mean firing rate", "%", None, 1),
    ),
    rules=(
        Bound("saving", "spiking", at_least=32.2),
        Bound("saving", "spikes_before", at_least=2.0, essential=False),
    ),
    scales={
        "quick": Scale((0, 1), 2.5, {"steps": 200, "context": 64, "batch": 8, "width": 64}),
        "full": Scale((0, 1, 2), 60, {"steps": 3000, "context": 128, "batch": 16, "width": 64}),
    },
    run=run,
    joint=True,
    comment="The published accounting charges additions to projections whose inputs are the results of normalisation, which are real numbers: as built they are multiplications.",  # noqa: E501
)  # fmt: skip
