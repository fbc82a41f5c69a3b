"""A trained SpikeGPT as a stream: the same numbers, a state that does not grow; and the release's runner."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ranvier.claims import Arm, Bound, Claim, Metric, Outcome, Scale, Trial
from ranvier.claims.systems.spike_gpt.text import PAPER, shakespeare, train

if TYPE_CHECKING:
    from torch import Tensor, nn


def _rescaled(net: nn.Module) -> nn.Module:
    """What the release's runner does to avoid overflow in half precision, exact for RWKV, not for thresholds."""
    import copy

    import torch

    from ranvier.models import SpikeGPT
    from ranvier.models.spike_gpt import SpikeGPTBlock

    other = copy.deepcopy(net)
    assert isinstance(other, SpikeGPT)
    with torch.no_grad():
        for number, block in enumerate(other.blocks):
            assert isinstance(block, SpikeGPTBlock)
            for layer in (block.att.output, block.ffn.value):
                layer.weight.div_(2 ** (number // 6))
            if (number + 1) % 6 == 0:
                block.register_forward_hook(_halved)
    return other


def _halved(_module: nn.Module, _inputs: Any, out: Any) -> Any:
    return out / 2


def _token_by_token(net: nn.Module, ids: Tensor) -> tuple[Tensor, list[int]]:
    """Logits of a text read one token at a time, and the bytes of the state after each hundred."""
    import torch

    from ranvier.state import carry

    parts: list[Tensor] = []
    sizes: list[int] = []
    with torch.no_grad(), carry(net) as memory:
        for t, token in enumerate(ids):
            parts.append(net(token.view(1, 1)))
            if (t + 1) % 100 == 0:
                sizes.append(memory.nbytes)
    return torch.cat(parts)[:, 0], sizes


def run(trial: Trial) -> Mapping[str, Outcome]:
    """One trained net, read at once, as a stream, and with the release's rescaling."""
    import torch
    import torch.nn.functional as F

    from ranvier.models import SpikeGPT

    settings: Mapping[str, Any] = trial.settings
    _, text, vocab = shakespeare()
    torch.manual_seed(trial.seed)
    net = SpikeGPT(vocab, n_layer=7, n_embd=settings["width"], dropout=0.0)
    train(net, settings, trial.seed)
    ids = text[: settings["tokens"]]

    def bits(logits: Tensor) -> float:
        return float(F.cross_entropy(logits[:-1].double(), ids[1:])) / math.log(2)

    net = net.double()
    with torch.no_grad():
        whole = net(ids)
        broken = _rescaled(net)(ids)
    stream, sizes = _token_by_token(net, ids)
    grown = float(max(sizes) - min(sizes))
    return {
        "parallel": Outcome({"bits": bits(whole), "difference": 0.0, "growth": 0.0}),
        "stream": Outcome({"bits": bits(stream), "difference": _size(stream - whole), "growth": grown}),
        "rescaled": Outcome({"bits": bits(broken), "difference": _size(broken - whole), "growth": 0.0}),
    }


def _size(difference: Tensor) -> float:
    """The largest difference, as a power of ten (at least −20)."""
    return math.log10(max(float(difference.abs().max()), 1e-20))


CLAIM = Claim(
    name="spike_gpt_stream",
    title="Streamed, SpikeGPT is the model that was trained",
    system="spike_gpt",
    paper=PAPER,
    statement="SpikeGPT generates text recurrently, at constant memory, as the model that was trained in parallel.",
    question="Seven blocks are trained, then 2,000 characters are read at once and one by one in float64. The release's runner halves the stream after every sixth block and rescales the weights to match, which is exact without thresholds: is it with them?",  # noqa: E501
    data="tiny Shakespeare by characters: first 90 % training, the beginning of the last 10 % is read",
    arms=(
        Arm("parallel", "the whole text at once"),
        Arm("stream", "a character at a time with carried state"),
        Arm("rescaled", "the whole text at once, with the rescaling of the release's runner"),
    ),
    metrics=(
        Metric("bits", "Bits a character", "", False, 4),
        Metric("difference", "Largest difference of a logit", "power of ten", False, 1),
        Metric("growth", "Growth of the state over the text", "bytes", False, 0),
    ),
    rules=(
        Bound("difference", "stream", at_most=-8, exact=True),
        Bound("growth", "stream", at_most=0, exact=True),
        Bound("difference", "rescaled", at_least=-2, exact=True),
    ),
    scales={
        "quick": Scale(
            (0, 1), 3, {"steps": 150, "context": 64, "batch": 8, "width": 48, "tokens": 2000}
        ),
        "full": Scale((0, 1, 2), 60, {"steps": 2000, "context": 128, "batch": 16, "width": 64, "tokens": 2000}),
    },
    run=run,
    joint=True,
)  # fmt: skip
