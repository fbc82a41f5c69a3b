"""A net in the form that compilers and runtimes trace: plain PyTorch operations, state as arguments and results."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ranvier.errors import ArgumentError, ShapeError
from ranvier.infer.exchange.nir_synapses import delay_taps
from ranvier.layers.delays import DelayLinear, DenseDelayLinear
from ranvier.neurons import Neuron
from ranvier.state import Memory, Stateful, carry

Mode = Literal["step", "sequence"]


class PlainDelay(Stateful):
    """A delayed layer as a product with the last inputs, which are its state `[B, D, I]`."""

    def __init__(self, layer: DelayLinear | DenseDelayLinear) -> None:
        super().__init__()
        taps = delay_taps(layer).flip(2).to(layer.weight.dtype)  # the oldest input first
        self.reach = taps.shape[2] - 1
        self.kernel = nn.Parameter(taps.flatten(1), requires_grad=False)
        self.bias = None if layer.bias is None else nn.Parameter(layer.bias.detach(), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        state = self.recall()
        before = x.new_zeros(x.shape[1], self.reach, x.shape[2]) if state is None else state[0]
        whole = torch.cat([before, x.transpose(0, 1)], 1)
        self.remember((whole[:, whole.shape[1] - self.reach :],))
        windows = [whole[:, t : t + self.reach + 1].transpose(1, 2).flatten(1) for t in range(x.shape[0])]
        return F.linear(torch.stack(windows), self.kernel, self.bias)


@dataclass(frozen=True)
class Slot:
    """One carried tensor: its name, the key of its module in a `Memory`, its number in that module's state."""

    name: str
    key: tuple[str, int]
    part: int


class StepNet(nn.Module):
    """One step of a net with its state in the open: `(x_t, *state)` to `(y_t, *next_state)`.

    Attributes:
        slots: what each state tensor is; initial: the state before the first step.
    """

    def __init__(self, model: nn.Module, slots: Sequence[Slot], initial: Sequence[Tensor]) -> None:
        super().__init__()
        self.model = model
        self.slots, self.initial = list(slots), list(initial)

    def forward(self, x: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        memory = Memory()
        for slot, value in zip(self.slots, state, strict=True):
            memory.states[slot.key] = (*memory.states.get(slot.key, ()), value)
        with carry(self.model, memory):
            y = self.model(x.unsqueeze(0))
        return (y[0], *(memory.states[slot.key][slot.part] for slot in self.slots))


@contextmanager
def plain_operations() -> Iterator[None]:
    """Inside the block every op runs as its definition in PyTorch."""
    before = os.environ.get("RANVIER_BACKEND")
    os.environ["RANVIER_BACKEND"] = "reference"
    try:
        yield
    finally:
        if before is None:
            del os.environ["RANVIER_BACKEND"]
        else:
            os.environ["RANVIER_BACKEND"] = before


def plain_copy(model: nn.Module) -> nn.Module:
    """A copy of `model` in eval mode, without gradients and with delays as plain products."""
    net = copy.deepcopy(model).eval().requires_grad_(False)
    if isinstance(net, DelayLinear | DenseDelayLinear):
        return PlainDelay(net)
    for module in list(net.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, DelayLinear | DenseDelayLinear):
                if child.tail:
                    raise ArgumentError(f"layer {name!r} appends tail={child.tail} steps; set model.tail = 0")
                setattr(module, name, PlainDelay(child))
    return net


def sequence_example(model: nn.Module, example: Tensor | None, T: int | None, batch: int) -> Tensor:
    """A sequence `[T, batch, ...]` like `example`, or random of the model's `input_shape`."""
    for name, value in (("T", T), ("batch", batch)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise ArgumentError(f"{name} must be an integer >= 1, got {value!r}")
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.zeros(()))
    if example is None:
        shape = getattr(model, "input_shape", None)
        if shape is None:
            raise ArgumentError("example: the model names no input_shape; give a sequence [T, B, ...] to trace it with")
        steps = T if T is not None else int(getattr(model, "T", 4))
        draws = torch.rand(steps, batch, *shape, generator=torch.Generator().manual_seed(0))
        return draws.to(like.device, like.dtype)
    if example.dim() < 3 or 0 in example.shape:
        raise ShapeError(f"example must be a sequence [T, B, ...], got {tuple(example.shape)}")
    if example.shape[1] < batch or (T is not None and example.shape[0] < T):
        raise ShapeError(f"example has shape {tuple(example.shape)}, too short for T={T} and batch={batch}")
    return example[: T if T is not None else len(example), :batch].to(like.device, like.dtype)


def _beginning(found: list[tuple[Tensor, ...]]) -> Callable[[nn.Module, tuple[Any, ...]], None]:
    def note(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        assert isinstance(module, Neuron)
        found.append(module.initial_state(inputs[0][0]))

    return note


@torch.no_grad()
def step_net(model: nn.Module, x: Tensor) -> StepNet:
    """`StepNet` of a plain copy for sequences like `x`. Raises `ArgumentError` for a net that does not stream."""
    for name, module in model.named_modules():
        if getattr(module, "streams", True) is False:
            raise ArgumentError(f"layer {name or type(module).__name__!r} looks at all steps at once: no single step")
    begun: dict[str, list[tuple[Tensor, ...]]] = {}
    handles = [
        module.register_forward_pre_hook(_beginning(begun.setdefault(name, [])))
        for name, module in model.named_modules()
        if isinstance(module, Neuron)
    ]
    with plain_operations():
        with carry(model) as memory:
            first = model(x[:1])
        for handle in handles:
            handle.remove()
        slots: list[Slot] = []
        initial: list[Tensor] = []
        for (name, call), state in memory.states.items():
            module = model.get_submodule(name)
            names = module.state_names if isinstance(module, Neuron) else tuple(map(str, range(len(state))))
            start = begun[name][call] if name in begun else tuple(map(torch.zeros_like, state))
            for part, value in enumerate(start):
                label = ".".join(filter(None, (name, f"call{call}" if call else "", names[part])))
                slots.append(Slot(label, (name, call), part))
                initial.append(value.contiguous())
        net = StepNet(model, slots, initial).eval()
        if not torch.equal(net(x[0], *initial)[0], first[0]):
            raise ArgumentError("the model has a layer whose state does not start from rest; export the sequence form")
    return net
