"""A linear layer whose every synapse has a weight and a delay of its own."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ranvier.errors import ArgumentError, ShapeError, StateError
from ranvier.layers.delays import execute
from ranvier.layers.delays.kernel import check_delays, check_interpolation, check_max_delay
from ranvier.ops.delay import Interpolation, Synapses, bump_taps, rounded, tabulated
from ranvier.state import State, Stateful

DelayType = Literal["synaptic", "axonal", "dendritic"]
Backend = Literal["auto", "conv", "fft", "gather", "scatter"]
BACKENDS = ("auto", "conv", "fft", "gather", "scatter")
RARE = 0.04  # share of inputs that are not zero below which scattering them beats gathering (benchmarks/delays.py)
SLACK = 1.0  # steps that an update may leave the buffer by; the next forward pass puts such delays back on its border


class DelayLinear(Stateful):
    """`y[t, o] = Σ_i w[o, i] · x[t − d[o, i], i]` with learned delays d, on sequences `[T, B, I]` (zero before t = 0).

    In training a delay is the position of a bump in the kernel of its synapse, and learns through it (dilated
    convolution with learnable spacings); in evaluation it is rounded to whole steps, one tap a synapse. Hammouamri,
    Khalfaoui-Hassani and Masquelier, "Learning delays in spiking neural networks using dilated convolutions with
    learnable spacings", ICLR 2024.

    Args:
        in_features, out_features: I and O.
        max_delay: D, the longest delay in steps; kernels have K = D + 1 taps.
        kernel_count: C, synapses between each pair of neurons.
        delay_type: "synaptic" (a delay each synapse), "axonal" (each input has one for all its synapses) or
            "dendritic" (each output); the last two cost a matrix product and a shift.
        interpolation: of the kernel in training, as in `delay_kernel`.
        learn_delay: False keeps the random delays.
        sparsity: share of the synapses that do not exist; which ones is drawn once.
        tail: zero steps appended to every sequence, whose output is returned too (T + tail steps).
        backend: "conv" (direct convolution), "fft" (transformed blocks), "gather" (from a history of inputs), "scatter"
            (into a buffer of future outputs, work for spikes only) or "auto", which takes the fastest. The last two
            run at whole delays without gradients; where that is not asked for, the better of the first two runs.
        groups: blocks of inputs and outputs that are connected, as in `torch.nn.Conv1d`.
        bias: add a learned constant to every output.
        round_in_eval: False keeps the soft kernel in evaluation.

    Attributes:
        weight: `[O, I / groups, C]`; delay: in steps, the same shape, `[1, I / groups, C]` a group (axonal) or
            `[O, 1, C]` (dendritic); sigma: the buffer σ of `delay_kernel`, for all synapses.
        frozen: True rounds the kernel in training too and gives delays no gradient.
    """

    undecayed = ("delay",)

    def __init__(
        self,
        in_features: int,
        out_features: int,
        max_delay: int,
        kernel_count: int = 1,
        delay_type: DelayType = "synaptic",
        interpolation: Interpolation = "gauss",
        learn_delay: bool = True,
        sparsity: float = 0.0,
        tail: int = 0,
        backend: Backend = "auto",
        groups: int = 1,
        bias: bool = False,
        round_in_eval: bool = True,
    ) -> None:
        super().__init__()
        counts = {"in_features": in_features, "out_features": out_features, "kernel_count": kernel_count}
        for name, value in {**counts, "groups": groups}.items():
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ArgumentError(f"{name} must be an integer >= 1, got {value!r}")
        if in_features % groups or out_features % groups:
            raise ArgumentError(
                f"groups={groups} must divide in_features={in_features} and out_features={out_features}"
            )
        check_max_delay(max_delay)
        check_interpolation(interpolation)
        if delay_type not in ("synaptic", "axonal", "dendritic"):
            raise ArgumentError(f"delay_type must be 'synaptic', 'axonal' or 'dendritic', got {delay_type!r}")
        if backend not in BACKENDS:
            raise ArgumentError(f"backend must be one of {', '.join(BACKENDS)}; got {backend!r}")
        if not 0 <= sparsity < 1:
            raise ArgumentError(f"sparsity must lie in [0, 1), got {sparsity!r}")
        if not isinstance(tail, int) or tail < 0:
            raise ArgumentError(f"tail must be a whole number of steps >= 0, got {tail!r}")
        self.in_features, self.out_features, self.max_delay = in_features, out_features, max_delay
        self.kernel_count, self.groups, self.tail = kernel_count, groups, tail
        self.delay_type: DelayType = delay_type
        self.interpolation: Interpolation = interpolation
        self.backend: Backend = backend
        self.learn_delay, self.round_in_eval, self.frozen = learn_delay, round_in_eval, False
        self.integer: bool | None = None  # set by `integer_delays` and `soft_delays`
        fan_in = in_features // groups
        self.weight = nn.Parameter(torch.empty(out_features, fan_in, kernel_count))
        shape = {
            "synaptic": (out_features, fan_in, kernel_count),
            "axonal": (groups, fan_in, kernel_count),
            "dendritic": (out_features, 1, kernel_count),
        }[delay_type]
        self.delay = nn.Parameter(torch.empty(shape), requires_grad=learn_delay)
        self.bias = nn.Parameter(torch.zeros(out_features)) if bias else None
        self.sigma: Tensor
        wide = learn_delay and interpolation == "gauss"
        self.register_buffer("sigma", torch.tensor(float(self.taps // 2) if wide else 0.0))
        self.mask: Tensor | None
        self.register_buffer("mask", (torch.rand(self.weight.shape) >= sparsity) if sparsity else None)
        self._kept: tuple[Any, list[Synapses]] | None = None
        self.reset_parameters()

    @property
    def taps(self) -> int:
        """K = max_delay + 1."""
        return self.max_delay + 1

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw weights (Kaiming-uniform for a ReLU) and delays (uniform over the buffer, a little more at its end)."""
        bound = math.sqrt(6 / (self.weight.shape[1] * self.kernel_count))
        self.weight.uniform_(-bound, bound)
        # the original draws centred positions P from U(−⌈K/2⌉, ⌊K/2⌋) and clamps them; d = ⌊(K − 1)/2⌋ − P
        low, high = -(-self.taps // 2), self.taps // 2
        self.delay.uniform_(-low, high).neg_().add_(self.max_delay // 2).clamp_(0, self.max_delay)
        self.after_update()

    @torch.no_grad()
    def after_update(self) -> None:
        """Put delays back into 0 .. max_delay and missing synapses back to zero; the trainer calls it at every step."""
        self.delay.clamp_(0, self.max_delay)
        if self.frozen:  # the momentum of an optimizer may still move them
            self.delay.copy_(self.rounded_delay())
        if self.mask is not None:
            self.weight.mul_(self.mask)

    @property
    def whole(self) -> bool:
        """Whether delays are rounded now: in evaluation, and in training once `frozen`."""
        if self.integer is not None:
            return self.integer
        return self.frozen or self.interpolation == "hard" or (self.round_in_eval and not self.training)

    def rounded_delay(self) -> Tensor:
        """The delays in whole steps (floating point), shaped like `delay`; no gradient."""
        return rounded(self.delay.detach(), self.max_delay)

    def kernel(self) -> Tensor:
        """The kernels `[O, I / groups, K]` that the layer applies now, tap n carrying delay K − 1 − n."""
        return self._taps().permute(1, 2, 0)

    def extra_repr(self) -> str:
        parts = [f"{self.in_features}, {self.out_features}, max_delay={self.max_delay}"]
        parts += [f"kernel_count={self.kernel_count}"] if self.kernel_count > 1 else []
        parts += [f"groups={self.groups}"] if self.groups > 1 else []
        return ", ".join([*parts, self.delay_type, self.interpolation])

    def forward(self, x: Tensor) -> Tensor:
        """`[T, B, I]` to `[T + tail, B, O]`; a sequence shorter than a delay is not reached by it.

        Inside `ranvier.carry` earlier inputs go on to arrive. Raises `ShapeError` for another shape or T = 0,
        `ArgumentError` for a delay beyond the buffer, and `StateError` when carried state does not fit or a stream
        meets a `tail`.
        """
        if x.dim() != 3 or x.shape[2] != self.in_features or x.shape[0] == 0:
            raise ShapeError(
                f"DelayLinear takes a sequence [T, B, {self.in_features}] with at least one step, got shape "
                f"{tuple(x.shape)}"
            )
        if not x.is_floating_point():
            raise ArgumentError(f"DelayLinear needs floating-point input, got {x.dtype}")
        carried = self._carried is not None
        if carried and self.tail:
            raise StateError(
                f"tail={self.tail} appends steps to the end of a sequence, and a stream has no end; set tail = 0"
            )
        if self.tail:
            x = torch.cat([x, x.new_zeros((self.tail, *x.shape[1:]))])
        state = self.recall()
        if self.delay_type == "synaptic":
            y, state = self._synaptic(x, state, carried)
        else:
            y, state = execute.shared(self, x, state, self._bumps())
        if carried:
            self.remember(state)
        if self.frozen and self.training and torch.distributed.is_available() and torch.distributed.is_initialized():
            y = y + 0 * self.delay.sum()  # several processes wait for a gradient of every parameter
        return y if self.bias is None else y + self.bias

    def _synaptic(self, x: Tensor, state: State | None, carried: bool) -> tuple[Tensor, State]:
        pending = len(state) == 2 if state is not None else carried and self.backend in ("auto", "scatter")
        if not self._by_synapse(x):
            if state is None:  # a stream of gradients keeps inputs, so that they meet the weights of today
                pending = False
            return execute.dense(x, self._taps(), self._fitting(x, state), pending, self._method, self.groups)
        rare = self.backend == "auto" and not carried and int(x.count_nonzero()) < RARE * x.numel()
        scatters = pending or rare or (self.backend == "scatter" and state is None)
        tables = self._tables(by_input=scatters, keep=carried and state is not None)
        state = self._fitting(x, state)
        return (execute.scattered if scatters else execute.gathered)(x, state, tables)

    @property
    def _method(self) -> str:
        return self.backend if self.backend in ("conv", "fft") else "auto"

    def _by_synapse(self, x: Tensor) -> bool:
        """Whether one multiplication a synapse will do: whole delays and no gradient."""
        graph = torch.is_grad_enabled() and any(t.requires_grad for t in (x, self.weight, self.delay))
        return self.whole and not graph and self._method == "auto" and not torch.compiler.is_compiling()

    def _fitting(self, x: Tensor, state: State | None) -> State | None:
        if state is None:
            return None
        width = self.out_features if len(state) == 2 else self.in_features
        expected = (x.shape[1], self.max_delay, width)
        if tuple(state[0].shape) != expected:
            self.fits(state[:1], (x.new_empty(expected, device="meta"),))  # raises
        return state

    def _check_delays(self) -> None:
        if check_delays(self.delay, self.max_delay, SLACK):
            return
        with torch.no_grad():
            self.delay.clamp_(0, self.max_delay)

    def _weight(self) -> Tensor:
        return self.weight if self.mask is None else self.weight * self.mask

    def _own_delay(self) -> Tensor:
        """The delay of every synapse, shaped like `weight`."""
        delay = self.delay.detach() if self.frozen else self.delay
        if self.delay_type == "axonal":
            delay = delay.repeat_interleave(self.out_features // self.groups, 0)
        return delay.expand(self.weight.shape)

    def _taps(self) -> Tensor:
        """Kernels with the taps outermost, `[K, O, I / groups]`."""
        self._check_delays()
        kind: Interpolation = "hard" if self.whole else self.interpolation
        return bump_taps(self._weight(), self._own_delay(), self.sigma, self.max_delay, kind)

    def _bumps(self) -> Tensor:
        """Bumps of weight one of the shared delays, `[K, N, C]`; N inputs (axonal) or outputs (dendritic)."""
        self._check_delays()
        kind: Interpolation = "hard" if self.whole else self.interpolation
        delay = self.delay.detach() if self.frozen else self.delay
        delay = delay.reshape(-1, self.kernel_count).unsqueeze(-1)
        return bump_taps(torch.ones_like(delay), delay, self.sigma, self.max_delay, kind)

    def _tables(self, by_input: bool, keep: bool) -> list[Synapses]:
        """Synapses of every group. Built anew for each call; within a stream kept until weights or delays change."""
        tensors = (self.weight, self.delay)
        key = None
        if keep and not any(t.is_inference() for t in tensors):
            key = (by_input, *((t._version, t.data_ptr(), t.dtype) for t in tensors))
            if self._kept is not None and self._kept[0] == key:
                return self._kept[1]
        self._check_delays()
        weight, delay = self._weight().detach(), rounded(self._own_delay().detach(), self.max_delay)
        if weight.dtype in (torch.float16, torch.bfloat16):
            weight = weight.float()
        pairs = zip(weight.chunk(self.groups), delay.chunk(self.groups), strict=True)
        tables = [tabulated(w, d, self.max_delay, by_input) for w, d in pairs]
        self._kept = None if key is None else (key, tables)
        return tables

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_kept": None}
