"""Feed-forward nets of learned synaptic delays for sequences of spikes (Hammouamri et al., ICLR 2024)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from torch import Tensor, nn

from ranvier.encode import Encoder
from ranvier.errors import ArgumentError, CheckpointError, ShapeError
from ranvier.layers.delays import (
    DelayAnnealer,
    DelayLinear,
    DenseDelayLinear,
    freeze_delays_,
    round_delays_,
)
from ranvier.layers.delays.linear import DelayType
from ranvier.layers.dropout import SequenceDropout
from ranvier.layers.leaky_readout import LeakyReadout
from ranvier.models.card import ModelCard, Paper, Reported
from ranvier.models.classifier import SpikingClassifier
from ranvier.models.official import OfficialNames
from ranvier.models.registry import register_model
from ranvier.neurons import NeuronFactory, NeuronSpec
from ranvier.ops.delay import Interpolation


class DelayMLP(SpikingClassifier):
    """[Delayed synapses → BatchNorm → neuron → dropout] per hidden width, delayed synapses, a leaky readout.

    Takes sequences of vectors `[T, B, N]`, and images or frames as every classifier. Batch norm is over steps and
    samples; dropout keeps one mask a sequence; nothing has a bias unless asked.

    Args:
        in_channels, img_size, num_classes, T, encoder: as in `SpikingClassifier`; N = in_channels · height · width.
        hidden: widths of the hidden layers.
        max_delay, kernel_count, delay_type, interpolation, learn_delay, sparsity: of `DelayLinear`. Delays that do not
            learn are rounded from the start.
        synapses: "delayed", or "dense" for a free weight at every delay.
        tail: zero steps that every layer appends, a number or "release" for ⌊max_delay / 2⌋, what the published code
            does; a stream needs 0.
        dropout: share of the hidden units that are silenced in training, a sequence at a time.
        tau: time constant, in steps, of the hidden neurons and of the readout.
        neuron: other hidden neurons; None for LIF without input scaling, arctangent surrogate of steepness 5.
        bias: of the synapses.
        sigma_end: σ of the bumps at the end of the annealing.
        anneal: share of the training over which σ falls exponentially from ⌊K/2⌋; 0 keeps it at `sigma_end`.
        rounded: share of the training, at its end, in which delays are rounded and only the rest goes on to learn.
    """

    def __init__(
        self,
        in_channels: int = 140,
        img_size: int | tuple[int, int] = 1,
        num_classes: int = 20,
        T: int = 100,
        hidden: Sequence[int] = (256, 256),
        max_delay: int = 24,
        kernel_count: int = 1,
        delay_type: DelayType = "synaptic",
        interpolation: Interpolation = "gauss",
        learn_delay: bool = True,
        sparsity: float = 0.0,
        synapses: Literal["delayed", "dense"] = "delayed",
        tail: int | Literal["release"] = 0,
        dropout: float = 0.4,
        tau: float = 1.005,
        neuron: NeuronSpec | None = None,
        bias: bool = False,
        sigma_end: float = 0.23,
        anneal: float = 0.25,
        rounded: float = 0.0,
        encoder: str | Mapping[str, Any] | Encoder = "direct",
    ) -> None:
        super().__init__(in_channels, img_size, num_classes, T, encoder)
        if not hidden or any(not isinstance(w, int) or w < 1 for w in hidden):
            raise ArgumentError(f"hidden must be a non-empty sequence of positive widths, got {hidden!r}")
        for name, share in (("anneal", anneal), ("rounded", rounded)):
            if not isinstance(share, int | float) or not 0 <= share <= 1:
                raise ArgumentError(f"{name} must be a share of the training in [0, 1], got {share!r}")
        if synapses not in ("delayed", "dense"):
            raise ArgumentError(f"synapses must be 'delayed' or 'dense', got {synapses!r}")
        if isinstance(tail, str):
            if tail != "release":
                raise ArgumentError(f"tail must be a number of steps or 'release', got {tail!r}")
            tail = max_delay // 2
        learn_delay = learn_delay and max_delay > 0
        widths = (in_channels * self.img_size[0] * self.img_size[1], *hidden, num_classes)
        self.max_delay, self.anneal, self.rounded = max_delay, anneal, rounded
        lif = {"type": "lif", "tau": tau, "decay_input": False, "surrogate": {"type": "atan", "alpha": 5.0}}
        make = NeuronFactory(lif if neuron is None else neuron)
        build: Callable[[int, int], nn.Module]
        if synapses == "dense":
            build = lambda i, o: DenseDelayLinear(i, o, max_delay, tail=tail, bias=bias)  # noqa: E731
        else:
            build = lambda i, o: DelayLinear(  # noqa: E731
                i, o, max_delay, kernel_count, delay_type, interpolation, learn_delay, sparsity, tail, bias=bias
            )
        self.delays = nn.ModuleList(build(i, o) for i, o in itertools.pairwise(widths))
        self.norms = nn.ModuleList(nn.BatchNorm1d(w) for w in hidden)
        self.neurons = nn.ModuleList(make(channels=w) for w in hidden)
        self.dropouts = nn.ModuleList(SequenceDropout(dropout) for _ in hidden)
        self.readout = LeakyReadout(tau)
        self.sigma_end = sigma_end
        DelayAnnealer(self, end=sigma_end, epochs=1 if anneal else 0).step(0)
        if not learn_delay:
            round_delays_(self)

    @classmethod
    def shd(cls, **overrides: Any) -> DelayMLP:
        """The published net for SHD: two layers of 256, delays up to 24 steps of 10 ms."""
        return cls(**{**_SHD, **overrides})

    @classmethod
    def ssc(cls, layers: int = 3, kernel_count: int = 2, **overrides: Any) -> DelayMLP:
        """The published nets for SSC: two or three layers of 512, delays up to 30 steps of 10 ms."""
        sizes: dict[str, Any] = {"hidden": (512,) * layers, "kernel_count": kernel_count}
        return cls(**{**_SPEECH, **sizes, **overrides})

    @classmethod
    def gsc(cls, layers: int = 3, kernel_count: int = 2, **overrides: Any) -> DelayMLP:
        """The published nets for GSC, which are those for SSC on mel bands."""
        return cls.ssc(layers, kernel_count, **overrides)

    @property
    def tail(self) -> int:
        """Zero steps that every layer appends to its input; set it to 0 to stream."""
        tail: int = self.delays[0].tail  # pyright: ignore[reportAssignmentType]
        return tail

    @tail.setter
    def tail(self, steps: int) -> None:
        for layer in self.delays:
            layer.tail = steps  # pyright: ignore[reportAttributeAccessIssue, reportArgumentType]

    def sequence(self, x: Tensor) -> Tensor:
        """`x` as `[T, B, N]`."""
        width = self.in_channels * self.img_size[0] * self.img_size[1]
        if x.dim() == 3:
            if x.shape[2] != width or x.shape[0] == 0:
                raise ShapeError(f"DelayMLP takes sequences [T, B, {width}] of at least one step, got {tuple(x.shape)}")
            return x
        return super().sequence(x).flatten(2)

    def classify(self, x: Tensor) -> Tensor:
        stages = zip(self.delays, self.norms, self.neurons, self.dropouts, strict=False)
        for delays, norm, neuron, dropout in stages:
            current = delays(x)
            current = norm(current.flatten(0, 1)).view_as(current)
            x = dropout(neuron(current))
        return self.readout(self.delays[-1](x))

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """Set σ for `epoch` (from 0) of `epochs`, and round delays when the last phase begins; trainers call it."""
        DelayAnnealer(self, end=self.sigma_end, epochs=int(epochs * self.anneal)).step(epoch)
        if self.rounded:
            freeze_delays_(self, epoch >= epochs - round(epochs * self.rounded))

    def official_names(self) -> OfficialNames:
        """Names of the original release (github.com/Thvnvtos/SNN-delays): one list of layers, four a hidden layer."""
        rules: list[tuple[str, str]] = []
        for i in range(len(self.delays)):
            rules += [
                (rf"model\.{4 * i}\.(weight|bias)", rf"delays.{i}.\1"),
                (rf"model\.{4 * i}\.P", f"delays.{i}.delay"),
                (rf"model\.{4 * i}\.SIG", f"delays.{i}.sigma"),
                (rf"model\.{4 * i + 1}\.(\w+)", rf"norms.{i}.\1"),
            ]
        return OfficialNames(
            rules=tuple(rules), values=((r".*\.P", self._delay_of_position), (r".*\.SIG", _common_width))
        )

    def follow_release(self) -> str:
        """Append the zero steps that the release appends before every layer."""
        self.tail = self.max_delay // 2
        return (
            f"like the release, every layer appends {self.tail} zero steps, so that the output is "
            f"{self.tail * len(self.delays)} steps longer than the input; to stream, set model.tail = 0"
        )

    def _delay_of_position(self, position: Tensor) -> Tensor:
        """A release counts positions from the middle of the kernel, and forwards in time: d = ⌊D/2⌋ − P."""
        reach = (self.max_delay + 1) // 2
        if float(position.abs().max()) > reach:
            raise CheckpointError(
                f"the checkpoint has positions up to {float(position.abs().max()):g} steps from the middle, and this "
                f"model's kernels of {self.max_delay + 1} taps reach {reach}; give create_model the max_delay that the "
                "checkpoint was trained with (its number of taps less one)"
            )
        return (self.max_delay // 2 - position.squeeze(0)).clamp(0, self.max_delay)


def _common_width(sigma: Tensor) -> Tensor:
    if sigma.numel() and not bool((sigma == sigma.flatten()[0]).all()):
        raise CheckpointError("the checkpoint has bumps of different widths in one layer; this model has one width")
    return sigma.flatten()[0]


_SHD: dict[str, Any] = {"num_classes": 20, "hidden": (256, 256), "max_delay": 24, "dropout": 0.4, "tau": 1.005}
_SPEECH: dict[str, Any] = {"num_classes": 35, "max_delay": 30, "dropout": 0.25, "tau": 1.5}
_PAPER = Paper(
    "Learning delays in spiking neural networks using dilated convolutions with learnable spacings", "ICLR 2024",
    "2306.17670",
)  # fmt: skip
_DEVIATIONS = (
    "the published code appends ⌊K/2⌋ zero steps before every layer; ours only with tail='release'",
)  # fmt: skip


def _register(
    name: str, params: int, summary: str, reported: tuple[Reported, ...], violations: tuple[str, ...] = (),
    **preset: Any,
) -> None:  # fmt: skip
    card = ModelCard(
        name=name, family="delay_mlp", params=params, summary=summary, input_shape=(140, 1, 1),
        num_classes=preset["num_classes"], T=100, paper=_PAPER, code="https://github.com/Thvnvtos/SNN-delays",
        reported=reported, violations=violations, spike_driven=not violations, deviations=_DEVIATIONS,
    )  # fmt: skip
    register_model(card, DelayMLP, **preset)


def _reported(dataset: str, value: float) -> tuple[Reported, ...]:
    return (Reported(dataset, value, "Hammouamri et al. 2024, table 1"),)


_FIRST = "the first layer receives {}"
_COUNTS = (_FIRST.format("spike counts (sums of 5 channels)"),)
_MEL = (_FIRST.format("mel bands"),)
_register(
    "delay_mlp_shd", 214_016, "two hidden layers of 256, a learned delay each synapse, on SHD",
    _reported("shd", 95.07), _COUNTS, **_SHD,
)  # fmt: skip
for _layers, _count, _size, _ssc, _gsc in (
    (2, 1, 705_536, 79.77, 94.91), (3, 1, 1_230_848, 80.29, 95.29),
    (2, 2, 1_409_024, 80.16, 95.00), (3, 2, 2_458_624, 80.69, 95.35),
):  # fmt: skip
    for _data, _value, _why in (("ssc", _ssc, _COUNTS), ("gsc", _gsc, _MEL)):
        _register(
            f"delay_mlp_{_data}_{_layers}l_{_count}kc", _size,
            f"{_layers} layers of 512, {_count} delayed synapse{'s' * (_count > 1)} a pair, on {_data.upper()}",
            _reported(_data, _value), _why, **_SPEECH, hidden=(512,) * _layers, kernel_count=_count,
        )  # fmt: skip
for _name, _size, _data, _value, _preset in (
    ("delay_mlp_shd_dense", 2_663_424, "shd", 93.44, _SHD),
    ("delay_mlp_ssc_2l_dense", 10_906_112, "ssc", 77.86, {**_SPEECH, "hidden": (512, 512)}),
    ("delay_mlp_ssc_3l_dense", 19_033_600, "ssc", 78.44, {**_SPEECH, "hidden": (512, 512, 512)}),
):
    _register(
        _name, _size, "the control with a free weight at every delay", _reported(_data, _value), _COUNTS,
        **_preset, synapses="dense",
    )  # fmt: skip
