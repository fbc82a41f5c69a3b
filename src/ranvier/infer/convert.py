"""Integer levels into binary virtual steps: a trained net becomes one whose synapses only add."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ranvier.errors import ArgumentError
from ranvier.infer.counts import Counts, plain
from ranvier.infer.plan import Plan, evaluating, follow, mergeable
from ranvier.infer.plan import replace as put
from ranvier.infer.spike_synapse import SpikeSynapse, requantize
from ranvier.infer.verify import Equivalence, verify_equivalence
from ranvier.layers import LayerScale
from ranvier.layers.quant import fold_bn
from ranvier.layers.quant.integer import IntSynapse, Synapse
from ranvier.neurons import IntegerLIF, Neuron


@dataclass(frozen=True)
class Conversion:
    """A converted net, what was done to make it, and the proof.

    Attributes:
        net: the spike-driven net; same inputs and outputs as the original.
        plan: the steps, which rebuild it from a model of the same configuration.
        levels: D of every neuron layer by name; the virtual steps of one step are the largest of them.
        equivalence: comparison with the original on the samples given (None where none was asked for).
    """

    net: nn.Module
    plan: Plan
    levels: dict[str, int]
    equivalence: Equivalence | None = None

    @property
    def virtual_steps(self) -> int:
        """Binary steps that one step takes."""
        return max(self.levels.values(), default=1)

    @property
    def four_bit(self) -> bool:
        """Whether every synaptic layer has integer weights of 4 bits or fewer."""
        found = [m for m in self.net.modules() if isinstance(m, SpikeSynapse)]
        return bool(found) and all(m.bits is not None and m.bits <= 4 for m in found)


def convert(
    model: nn.Module,
    x: Tensor,
    *,
    merge: bool = True,
    fold: bool = True,
    requantize: int | None = None,
    verify: bool = True,
    atol: float = 1e-6,
    strict: bool = True,
) -> Conversion:
    """Turn `model` into a net in which binary spikes enter every synaptic layer.

    Re-parameterised convolutions are merged, batch norms and layer scales folded into weights (integer weights stay
    integers), every neuron that emits counts 0..D emits D binary virtual steps, and every synaptic layer sums over
    them, with its scale and bias applied once. Of an attention product one operand is expanded at a time. Neurons sum
    the virtual steps of their input, then fire once (layer by layer, not slot by slot). Works for any module that is
    built of `ranvier.neurons` and PyTorch layers. `model` itself is not changed.

    Args:
        model: a trained net; evaluated in eval mode.
        x: input, to follow the net's tensors through and to compare on: a batch as the net takes it.
        merge: merge `RepConv`, `SepConv` and whatever else has a `fuse` method. Without it their inner convolutions
            take real values. Merged kernels are no longer of few bits.
        fold: fold batch norms and layer scales.
        requantize: bits for the weights that merging made real (2 to 8); the result is then another net, so it is not
            compared with the original here.
        verify: compare with the original on `x`, in float64.
        atol: largest difference of logits allowed then.
        strict: raise when they differ by more; otherwise `equivalence` says so.

    An attention product is an integer times a scale. With D a power of two both nets compute it without rounding; with
    D = 3, say, it can lie exactly on a threshold, where rounding errors decide in the original, and a spike may differ.

    Raises `ArgumentError` when the outputs differ.
    """
    if not isinstance(model, nn.Module):
        raise ArgumentError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    if any(isinstance(m, SpikeSynapse) for m in model.modules()):
        raise ArgumentError("model: it is converted already")
    net = evaluating(copy.deepcopy(model))
    merged = mergeable(net) if merge else ()
    for name in merged:
        put(net, name, net.get_submodule(name).fuse())  # pyright: ignore[reportCallIssue]
    with torch.no_grad():
        plan = follow(net, x, merged)
    plan = replace(plan, requantize=requantize, fold=plan.fold if fold else {})
    net = apply_plan(net, plan, merged=True)
    levels = {
        name: m.levels if isinstance(m, IntegerLIF) else 1 for name, m in net.named_modules() if isinstance(m, Neuron)
    }
    if not levels:
        raise ArgumentError(
            "model: it has no neurons (ranvier.neurons), so nothing in it emits spikes; a net of activations has to "
            "be turned into a spiking one first"
        )
    done = Conversion(net, plan, levels)
    if not verify or requantize is not None:
        return done
    found = verify_equivalence(model, net, x, atol=atol)
    if strict and not found.equal:
        raise ArgumentError(
            f"model: the converted net differs from the original by {found.max_difference:.3g} in its logits (allowed: "
            f"{atol:g}): something in it could not be folded or expanded (try merge=False or fold=False), or a product "
            "of counts lies on a threshold (levels that are no power of two; strict=False lets it pass)"
        )
    return replace(done, equivalence=found)


@torch.no_grad()
def apply_plan(net: nn.Module, plan: Plan, merged: bool = False) -> nn.Module:
    """Do to `net`, in place, what `plan` says; `merged` when the merging is done."""
    if not merged:
        for name in plan.merge:
            put(net, name, net.get_submodule(name).fuse())  # pyright: ignore[reportCallIssue]
    for name in plan.synapses:
        layer: nn.Module = fold_bn(net.get_submodule(name), None)
        for after in plan.fold.get(name, ()):
            layer = _fold(layer, net.get_submodule(after))
            put(net, after, nn.Identity())
        if plan.requantize is not None and isinstance(layer, Synapse):
            layer = requantize(layer, plan.requantize)
        put(net, name, SpikeSynapse(layer))
    for module in net.modules():
        if isinstance(module, Neuron):
            emit_counts(module)
    return evaluating(net)


def _fold(layer: nn.Module, after: nn.Module) -> nn.Module:
    if not isinstance(after, LayerScale):
        return fold_bn(layer, after)
    gamma = after.gamma.detach()
    if isinstance(layer, IntSynapse):
        layer.scale = layer.scale * gamma
    else:
        assert isinstance(layer, Synapse)
        layer.weight.mul_(gamma.view(-1, *[1] * (layer.weight.dim() - 1)))
    if layer.bias is not None:
        layer.bias.data = layer.bias * gamma
    return layer


def emit_counts(neuron: Neuron) -> tuple[Any, Any]:
    """Hook `neuron` so that its output is `Counts`; returns the handles of the hooks."""
    return neuron.register_forward_pre_hook(_take_values), neuron.register_forward_hook(_give_counts)


def _take_values(module: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(plain(x) for x in given)


def _give_counts(module: nn.Module, given: tuple[Any, ...], out: Tensor) -> Tensor:
    if isinstance(module, IntegerLIF):
        return Counts.of((out / module.output_scale).round(), module.levels, module.output_scale)
    binary = bool(((out == 0) | (out == 1)).all())
    return Counts.of(out, 1) if binary else out


@contextlib.contextmanager
def spike_mode(model: nn.Module, mode: Literal["integer", "binary"]) -> Iterator[nn.Module]:
    """Run `model` with its counts as they are ("integer") or expanded into binary virtual steps ("binary").

    In binary mode every convolution, linear layer and attention product inside the block is computed on zeros and ones
    and the results are the same; nothing is folded or merged. For inference: no gradients pass.
    """
    if mode not in ("integer", "binary"):
        raise ArgumentError(f"mode must be 'integer' or 'binary', got {mode!r}")
    handles: list[Any] = []
    if mode == "binary":
        for module in model.modules():
            if isinstance(module, Neuron):
                handles += emit_counts(module)
    try:
        yield model
    finally:
        for handle in handles:
            handle.remove()
