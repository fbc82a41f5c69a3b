"""ANN to SNN: the activations of a trained net become integrate-and-fire neurons."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ranvier.errors import ArgumentError, RanvierError
from ranvier.layers.qcfs import QCFS, Folded, FoldedNeuron, InputWindow, LSQReLU, WindowedConstant
from ranvier.neurons import QCFSIF, QFFSIF, Neuron

ACTIVATIONS = (QCFS, LSQReLU, nn.ReLU, nn.ReLU6)
LINEAR = (
    nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.AvgPool1d,
    nn.AvgPool2d, nn.AvgPool3d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d, nn.Flatten,
    nn.Unflatten, nn.Identity,
    nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.ZeroPad2d, nn.ConstantPad2d,
)  # fmt: skip
POOLS: dict[type[nn.Module], type[nn.Module]] = {nn.MaxPool1d: nn.AvgPool1d, nn.MaxPool2d: nn.AvgPool2d}
_FUNCTIONS = {
    "relu", "relu_", "relu6", "gelu", "silu", "sigmoid", "tanh", "softmax", "log_softmax", "layer_norm", "group_norm",
    "instance_norm", "max_pool1d", "max_pool2d", "max_pool3d", "scaled_dot_product_attention", "leaky_relu", "elu",
    "selu",
    "hardtanh", "hardswish", "softplus", "exp", "log", "clamp", "abs", "sqrt", "pow", "multi_head_attention_forward",
}  # fmt: skip


class NotConvertibleError(RanvierError, ValueError):
    """A net has parts that no integrate-and-fire neuron computes; the message lists them all."""


@dataclass(frozen=True)
class AnnConversion:
    """A converted net and what was changed.

    Attributes:
        net: takes images `[B, ...]` (shown for `steps` steps) or sequences `[T, B, ...]`, gives logits `[T, B, K]`.
        thresholds: threshold θ of every neuron, by the name of the activation it replaced.
        pools: max-pools that became average pools; the net has to be trained with these to keep its accuracy.
        steps: steps of a static image.
        neuron: "qcfs_if" or "qffs_if".
        start: V before the first step, as a share of θ.
        levels: L of each activation that has levels, by its name.
        input_steps: of "qffs_if": the input is shown for so many steps (its levels); logits are the sum of the outputs
            over this number. None where the input stays.
    """

    net: nn.Module
    thresholds: dict[str, float]
    pools: list[str]
    steps: int
    neuron: str = "qcfs_if"
    start: float = 0.5
    levels: dict[str, int] = field(default_factory=dict)
    input_steps: int | None = None


class ConvertedNet(nn.Module):
    """A user's net after conversion: time is folded into the batch around its layers.

    Args:
        net: layers with `FoldedNeuron`s.
        steps: how long a static input is shown.
        input_dims: axes of one batch of static inputs (4 for images).
    """

    def __init__(self, net: nn.Module, steps: int, input_dims: int = 4) -> None:
        super().__init__()
        self.body, self.T, self.input_dims = Folded(net), steps, input_dims

    def forward(self, x: Tensor) -> Tensor:
        """Per-step logits `[T, B, K]` of a static input or a sequence."""
        if x.dim() == self.input_dims:
            x = x.expand(self.T, *x.shape)
        elif x.dim() != self.input_dims + 1:
            raise ArgumentError(
                f"x must have {self.input_dims} axes (static) or one more (time first), got {tuple(x.shape)}"
            )
        return self.body(x)


class _Watch(TorchFunctionMode):
    """Functions that are called outside the modules that stand for them."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.found = 0, set[str]()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if not self.inside and name in _FUNCTIONS:
            self.found.add(name)
        return func(*args, **(kwargs or {}))


def _problems(net: nn.Module, example: Tensor | None, qffs: bool = False) -> list[str]:
    """Everything in the way, in words."""
    known = (*ACTIVATIONS, *LINEAR, *POOLS, Folded)
    listed = [
        f"{name or 'the net'} ({type(module).__name__})"
        for name, module in net.named_modules()
        if not isinstance(module, known) and (isinstance(module, Neuron) or not _container(module))
    ]
    listed += [
        f"{name or 'the net'} (a batch norm without running statistics)"
        for name, module in net.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None
    ]
    if qffs:
        listed += [
            f"{name} (pads with {module.value:g}, which outlasts the input)"
            for name, module in net.named_modules() if isinstance(module, nn.ConstantPad2d) and module.value != 0
        ]  # fmt: skip
    if example is None:
        return listed
    watch, hooks = _Watch(), []

    def enter(*_: Any) -> None:
        watch.inside += 1

    def leave(*_: Any) -> None:
        watch.inside -= 1

    for module in net.modules():
        if isinstance(module, (*ACTIVATIONS, *LINEAR, *POOLS)):
            hooks += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave, always_call=True)]
    try:
        with torch.no_grad(), watch:
            net(example)
    finally:
        for hook in hooks:
            hook.remove()
    return listed + [
        f"a call of {name}() outside a module (use the module, such as nn.ReLU)" for name in sorted(watch.found)
    ]


def _container(module: nn.Module) -> bool:
    """A module that holds others and computes by them, or an encoder of ours."""
    from ranvier.encode import Encoder

    own = list(module.parameters(recurse=False))
    return isinstance(module, Encoder) or (not own and any(True for _ in module.children()) and _plain(module))


def _plain(module: nn.Module) -> bool:
    refused = (nn.MultiheadAttention, nn.TransformerEncoderLayer, nn.TransformerDecoderLayer, nn.RNNBase)
    return not isinstance(module, refused)


@contextmanager
def _observed(net: nn.Module, quantile: float) -> Iterator[dict[nn.Module, float]]:
    """The given quantile of the positive outputs of every ReLU while the block runs the net."""
    found: dict[nn.Module, float] = {}

    def note(module: nn.Module, _: Any, output: Tensor) -> None:
        positive = output.detach().flatten().float()
        positive = positive[positive > 0]
        if len(positive):
            step = max(1, len(positive) // 1_000_000)  # torch.quantile takes 16 million numbers at most
            found[module] = max(found.get(module, 0.0), float(torch.quantile(positive[::step], quantile)))

    hooks = [m.register_forward_hook(note) for m in net.modules() if isinstance(m, nn.ReLU | nn.ReLU6)]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def convert_ann(
    model: nn.Module,
    example: Tensor | None = None,
    steps: int = 16,
    neuron: Literal["qcfs_if", "qffs_if"] = "qcfs_if",
    quantile: float = 0.999,
    start: float = 0.5,
) -> AnnConversion:
    """Put integrate-and-fire neurons in the place of the activations of a trained net (Bu et al., ICLR 2022).

    QCFS and LSQ activations hand over their ceiling as the threshold; with T = L steps of constant input each neuron's
    mean output is then exactly the activation. For ReLU the threshold is the `quantile` of its positive outputs on
    `example`, an approximation. Membranes start at `start` θ, reset is soft, outputs are θ s. Batch norms stay, dropout
    does nothing, max-pools become average pools (they are listed: train with average pools). `model` is not changed.

    Args:
        model: a library model with quantised activations, or any module made of convolutions, linear layers, batch
            norms, pools, sums and ReLUs.
        example: inputs `[B, ...]`: needed for ReLU; also reveals functions called outside modules.
        steps: T of the converted net.
        neuron: "qcfs_if", or "qffs_if" with negative spikes and a cap at L counts, which reaches the activations
            exactly a few steps after an input of L steps ends (noise correction of QFFS); needs QCFS or LSQ with the
            same L everywhere. Input, biases and shifts of norms are there for the first L steps only, whatever is fed
            after them; the sum of the outputs over L becomes the logits of the trained net.

    Raises `NotConvertibleError` with the list of all parts that cannot be converted.
    """
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise ArgumentError(f"steps must be an integer >= 1, got {steps!r}")
    if neuron not in ("qcfs_if", "qffs_if"):
        raise ArgumentError(f"neuron must be 'qcfs_if' or 'qffs_if', got {neuron!r}")
    if not 0 < quantile <= 1:
        raise ArgumentError(f"quantile must be in (0, 1], got {quantile!r}")
    net = copy.deepcopy(model).eval()
    problems = _problems(net, example, neuron == "qffs_if")
    if problems:
        raise NotConvertibleError(f"this net cannot be converted because of: {'; '.join(problems)}")
    activations = {name: m for name, m in net.named_modules() if isinstance(m, ACTIVATIONS)}
    if not activations:
        raise NotConvertibleError("this net has no QCFS, LSQReLU or ReLU module to convert")
    plain = [name for name, m in activations.items() if isinstance(m, nn.ReLU | nn.ReLU6)]
    if plain and neuron == "qffs_if":
        raise NotConvertibleError(f"qffs_if needs QCFS or LSQ activations, and {plain[0]} is a ReLU")
    levels = {name: m.levels for name, m in activations.items() if isinstance(m, QCFS | LSQReLU)}
    if neuron == "qffs_if" and len(set(levels.values())) > 1:
        raise NotConvertibleError(
            f"qffs_if needs the same levels in all activations, and these have {sorted(set(levels.values()))}"
        )
    if plain and example is None:
        raise ArgumentError(f"example: the threshold of {plain[0]} (ReLU) is read off inputs, so some are needed")
    pools = _average(net)
    with _observed(net, quantile) as seen, torch.no_grad():
        if plain:
            net(example)
    thresholds = {
        name: seen.get(m, 1.0) if isinstance(m, nn.ReLU | nn.ReLU6) else float(m.ceiling.detach())
        for name, m in activations.items()
    }
    dims = example.dim() if example is not None else 4
    done = AnnConversion(net, thresholds, pools, steps, neuron, start, levels, max(levels.values(), default=None)
                         if neuron == "qffs_if" else None)  # fmt: skip
    return replace(done, net=with_neurons(net, done, dims))


def with_neurons(net: nn.Module, plan: AnnConversion, input_dims: int = 4) -> nn.Module:
    """Put the neurons that `plan` says into `net` (which is changed); its `net` is not looked at."""
    missing = sorted(set(plan.thresholds) - {name for name, _ in net.named_modules()})
    if missing:
        raise ArgumentError(f"plan: the net has no activation {missing[0]!r}")
    for name, theta in plan.thresholds.items():
        made: Neuron = (
            QCFSIF(theta, plan.start) if plan.neuron == "qcfs_if"
            else QFFSIF(levels=plan.levels[name], threshold=theta, start=plan.start)
        )  # fmt: skip
        _put(net, name, FoldedNeuron(made))
    if not any(isinstance(m, Folded) for m in net.modules()):
        net = ConvertedNet(net, plan.steps, input_dims)
    else:
        net.T = plan.steps  # pyright: ignore[reportAttributeAccessIssue, reportArgumentType]
    if plan.input_steps is not None:
        for folded in [m for m in net.modules() if isinstance(m, Folded)]:
            folded.window = InputWindow(plan.input_steps)
            for name, module in [(n, m) for n, m in folded.net.named_modules() if _has_constant(m)]:
                if name:
                    _put(folded.net, name, WindowedConstant(module))
                else:
                    folded.net = WindowedConstant(module)
    return net.eval()


def _has_constant(module: nn.Module) -> bool:
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        return True
    return isinstance(module, LINEAR) and getattr(module, "bias", None) is not None


def average_pools(net: nn.Module, names: list[str]) -> None:
    """Make average pools of the max-pools of these names."""
    for name in names:
        pool = net.get_submodule(name)
        _put(net, name, POOLS[type(pool)](pool.kernel_size, pool.stride, pool.padding, pool.ceil_mode))  # pyright: ignore


def _average(net: nn.Module) -> list[str]:
    pools = [(name, m) for name, m in net.named_modules() if isinstance(m, tuple(POOLS))]
    for name, pool in pools:
        if getattr(pool, "dilation", 1) not in (1, (1, 1)):
            raise NotConvertibleError(f"this net cannot be converted because of: {name} (a dilated max-pool)")
    names = [name for name, _ in pools]
    average_pools(net, names)
    return names


def _put(net: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(net.get_submodule(parent), last, module)
