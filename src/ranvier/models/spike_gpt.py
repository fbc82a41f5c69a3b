"""SpikeGPT: RWKV-4 whose blocks add spikes to the residual stream; the time steps of its neurons are the tokens."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from ranvier.errors import ArgumentError, StateError
from ranvier.layers.rwkv_mix import ChannelMix, TimeMix
from ranvier.models.card import ModelCard, Paper, Reported
from ranvier.models.language import LanguageModel
from ranvier.models.official import OfficialNames
from ranvier.models.registry import register_model
from ranvier.models.spike_gpt_start import INITIALISATIONS, initialise
from ranvier.neurons import Neuron, NeuronFactory, NeuronSpec
from ranvier.surrogates import Atan

SpikePosition = Literal["output", "input", "none"]
LIF: dict[str, Any] = {
    "type": "lif", "tau": 2.0, "surrogate": {"type": "atan", "alpha": 2.0}, "detach_reset": False
}  # fmt: skip


class Forgetful(nn.Module):
    """A neuron layer that starts every token from its initial state (an ablation: no memory in the membrane)."""

    def __init__(self, neuron: Neuron) -> None:
        super().__init__()
        self.neuron = neuron

    def forward(self, x: Tensor) -> Tensor:
        return self.neuron.scan(x.flatten(0, 1).unsqueeze(0), None, False)[0].view_as(x)


class SpikeGPTBlock(nn.Module):
    """`x + S(TimeMix(LN x))`, `x + S(ChannelMix(LN x))`, dropout on the whole stream; S is a neuron layer, or nothing.

    Args:
        dim: channels.
        spikes: makes the neuron layers after the two mixers (None: none there).
        inside: makes the neuron layers before every linear layer (None: none there).
        first: normalise the stream before the block; `ffn_pre` puts a channel mix in the place of the time mix.
        attend: of `TimeMix`; `membrane` False takes `Forgetful` neurons.
    """

    def __init__(
        self, dim: int, spikes: NeuronFactory | None, inside: NeuronFactory | None, dropout: float, first: bool = False,
        ffn_pre: bool = False, attend: bool = True, membrane: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        self.ln0 = nn.LayerNorm(dim) if first else None
        self.ln1, self.ln2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        if ffn_pre:
            self.ffnPre = ChannelMix(dim, inside)
        else:
            self.att = TimeMix(dim, inside, attend)
        self.ffn = ChannelMix(dim, inside)
        self.ffn_pre = ffn_pre
        self.lif1, self.lif2 = (self._neuron(spikes, dim, membrane) for _ in range(2))
        self.dropout = nn.Dropout(dropout)

    @staticmethod
    def _neuron(spikes: NeuronFactory | None, dim: int, membrane: bool) -> nn.Module:
        if spikes is None:
            return nn.Identity()
        neuron = spikes(channels=dim, channel_axis=2)
        return neuron if membrane else Forgetful(neuron)

    def forward(self, x: Tensor) -> Tensor:
        """`[T, B, C]` to `[T, B, C]`."""
        if self.ln0 is not None:
            x = self.ln0(x)
        mix = self.ffnPre if self.ffn_pre else self.att
        x = x + self.lif1(mix(self.ln1(x)))
        x = x + self.lif2(self.ffn(self.ln2(x)))
        return self.dropout(x)


class SpikeGPT(LanguageModel):
    """Token ids `[T, B]` to logits `[T, B, V]` (Zhu et al., "SpikeGPT", TMLR 2024, arXiv 2302.13939).

    Args:
        vocab_size, batch_first: as in `LanguageModel`.
        n_layer, n_embd: blocks and channels.
        dropout: on the residual stream, in every block.
        binary_embedding: 1[embedding ≥ 0] in place of the embedding, as in the models of characters and bytes.
        spike_position: "output", as published: the mixers' results become spikes, their inputs are real numbers;
            "input": every linear layer in the blocks receives spikes, what hardware without multipliers needs; "none":
            no spikes, the RWKV-4 of the same parameters.
        init: "rwkv" (the release's intended start), "normal" (small normal weights) or "torch_default" (what the
            release really does).
        ffn_pre: a channel mix in place of the first time mix.
        head_qk: size of an optional head that copies tokens of the text (0: none); it looks at all tokens at once.
        attend, membrane: False takes away WKV, or the memory of the neurons (ablations).
        neuron: of all neuron layers.
    """

    def __init__(
        self,
        vocab_size: int = 256,
        n_layer: int = 12,
        n_embd: int = 512,
        dropout: float = 0.03,
        binary_embedding: bool = True,
        spike_position: SpikePosition = "output",
        init: Literal["rwkv", "normal", "torch_default"] = "rwkv",
        ffn_pre: bool = False,
        head_qk: int = 0,
        attend: bool = True,
        membrane: bool = True,
        neuron: NeuronSpec = LIF,
        batch_first: bool = False,
    ) -> None:
        super().__init__(vocab_size, batch_first)
        for name, value, least in (("n_layer", n_layer, 1), ("n_embd", n_embd, 2), ("head_qk", head_qk, 0)):
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ArgumentError(f"{name} must be an integer of at least {least}, got {value!r}")
        if spike_position not in ("output", "input", "none"):
            raise ArgumentError(f"spike_position must be 'output', 'input' or 'none', got {spike_position!r}")
        if init not in INITIALISATIONS:
            raise ArgumentError(f"init must be one of {', '.join(INITIALISATIONS)}, got {init!r}")
        if not 0 <= dropout < 1:
            raise ArgumentError(f"dropout must lie in [0, 1), got {dropout!r}")
        make = NeuronFactory(neuron)
        self.binary_embedding, self.spike_position, self.head_qk = binary_embedding, spike_position, head_qk
        self.spike = Atan(2.0)
        self.emb = nn.Embedding(vocab_size, n_embd)
        spikes, inside = make if spike_position == "output" else None, make if spike_position == "input" else None
        self.blocks = nn.ModuleList(
            SpikeGPTBlock(
                n_embd, spikes, inside, dropout, first=i == 0, ffn_pre=ffn_pre and i == 0, attend=attend,
                membrane=membrane,
            ) for i in range(n_layer)
        )  # fmt: skip
        self.ln_out = nn.LayerNorm(n_embd)
        self.head = nn.Linear(n_embd, vocab_size, bias=False)
        if head_qk:
            self.head_q, self.head_k = (nn.Linear(n_embd, head_qk, bias=False) for _ in range(2))
        initialise(self, init)

    def features(self, ids: Tensor) -> Tensor:
        """What the head sees, `[T, B, C]`."""
        x = self.emb(ids)
        if self.binary_embedding:
            x = self.spike(x)
        for block in self.blocks:
            x = block(x)
        return self.ln_out(x)

    def tokens_to_logits(self, ids: Tensor) -> Tensor:
        x = self.features(ids)
        logits = self.head(x)
        return logits + self._copied(x, ids) if self.head_qk else logits

    def _copied(self, x: Tensor, ids: Tensor) -> Tensor:
        """Scores of copying tokens of the text: causal products of queries and keys, without a softmax."""
        if any(getattr(module, "_carried", None) is not None for module in self.modules()):
            raise StateError("head_qk looks at the whole text, so this model cannot stream; use head_qk=0")
        scores = torch.einsum("tbq,sbq->bts", self.head_q(x), self.head_k(x)) / self.head_qk
        onto = nn.functional.one_hot(ids.T, self.vocab_size).to(scores.dtype)
        return torch.bmm(scores.tril(), onto).transpose(0, 1)

    @staticmethod
    def official_names() -> OfficialNames:
        """The names of the release: ours, but for the two vectors of WKV."""
        return OfficialNames(
            rules=(
                (r"(blocks\.\d+\.att)\.(time_decay|time_first)", r"\1.wkv.\2"),
                (r"(emb|head|head_q|head_k)\.weight", r"\1.weight"),
                (r"ln_out\.(weight|bias)", r"ln_out.\1"),
                (r"(blocks\.\d+\.ln[012])\.(weight|bias)", r"\1.\2"),
                (r"(blocks\.\d+\.(?:att|ffn|ffnPre)\.time_mix_[kvr])", r"\1"),
                (r"(blocks\.\d+\.(?:att|ffn|ffnPre)\.(?:key|value|receptance|output))\.weight", r"\1.weight"),
            ),
            ignored=(r"pos_emb.*", r"copy_mask", r".*\.lif\d?\..*"),
        )


class SpikeGPTForSequenceClassification(SpikeGPT):
    """SpikeGPT with a linear readout of the mean over the tokens of a text: ids `[T, B]` to logits `[1, B, K]`.

    Pad on the right with `pad_token`, which is left out of the mean; None: no padding. The published code of this head
    was never released; pooling is ours.
    """

    def __init__(self, num_labels: int, pad_token: int | None = None, **options: Any) -> None:
        super().__init__(**options)
        if not isinstance(num_labels, int) or num_labels < 2:
            raise ArgumentError(f"num_labels must be an integer of at least 2, got {num_labels!r}")
        self.pad_token = pad_token
        width = self.head.in_features
        self.head = nn.Linear(width, num_labels)

    def tokens_to_logits(self, ids: Tensor) -> Tensor:
        x = self.features(ids)
        kept = torch.ones_like(ids) if self.pad_token is None else (ids != self.pad_token).long()
        weight = kept.to(x.dtype).unsqueeze(2)
        return self.head((x * weight).sum(0, keepdim=True) / weight.sum(0, keepdim=True).clamp(min=1))

    @property
    def num_classes(self) -> int:
        return self.head.out_features


_PAPER = Paper(
    "SpikeGPT: Generative Pre-trained Language Model with Spiking Neural Networks", "TMLR 2024", "2302.13939"
)
_CODE = "https://github.com/ridgerchu/SpikeGPT"
_VIOLATIONS = ("every linear layer receives normalised real numbers; only the residual additions are spikes",)
_DEVIATIONS = (
    "streams by the trained equations; the release's runner rescales weights and stream, which the thresholds feel",
    "the intended start of the weights is used (init='torch_default' for what the release does)",
)


def _register(
    name: str, params: int, summary: str, reported: tuple[Reported, ...] = (), deviations: tuple[str, ...] = (),
    violations: tuple[str, ...] = _VIOLATIONS, **preset: Any,
) -> None:  # fmt: skip
    vocab = preset["vocab_size"]
    card = ModelCard(
        name=name, family="spike_gpt", params=params, summary=summary, input_shape=(1024,), num_classes=vocab, T=1024,
        spike_driven=False, violations=violations, task="language", paper=_PAPER, code=_CODE, reported=reported,
        deviations=(*_DEVIATIONS, *deviations),
    )  # fmt: skip
    register_model(card, SpikeGPT, **preset)


_register(
    "spike_gpt_41m", 41_226_240, "12 blocks of 512 channels on bytes (enwik8)",
    deviations=("bytes; the publication uses the 6064 characters of enwik8 (46 M parameters)",),
    vocab_size=256, n_layer=12, n_embd=512,
)  # fmt: skip
_register(
    "spike_gpt_47m", 47_173_632, "12 blocks of 512 channels on the characters of enwik8",
    reported=(
        Reported("enwik8, context 1024", 1.283, "table 1", "bits per character"),
        Reported("enwik8, context 3072", 1.262, "table 1", "bits per character"),
    ),
    vocab_size=6064, n_layer=12, n_embd=512,
)  # fmt: skip
_register(
    "spike_gpt_216m", 215_399_424, "18 blocks of 768 channels on the tokens of GPT-NeoX-20B",
    reported=(Reported("WikiText-103", 39.75, "table 2", "perplexity"),),
    vocab_size=50277, n_layer=18, n_embd=768, binary_embedding=False,
)  # fmt: skip
_register(
    "spike_gpt_261m", 261_456_384, "24 blocks of 768 channels, the default size of the release's script",
    vocab_size=50277, n_layer=24, n_embd=768, binary_embedding=False,
)  # fmt: skip
