"""Features inside a net, by the name of a layer: what it emits, what enters it, or the membrane of its neurons."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ranvier.errors import ArgumentError, nearest
from ranvier.neurons import Neuron
from ranvier.state import State

What = Literal["output", "input", "membrane"]
WHATS = ("output", "input", "membrane")


@dataclass(frozen=True)
class Tap:
    """A place in a net: a layer's name in `net.named_modules()` and what to take there.

    `what` is "output", "input", or, of a neuron, "membrane": its state `v` after the reset of every step.
    """

    layer: str
    what: What = "output"


def default_tap(net: nn.Module) -> Tap:
    """The `transfer_tap` of a model that names one, else the membrane (or output) of the last neurons in the net."""
    named: Any = getattr(net, "transfer_tap", None)
    if named is not None:
        return Tap(*named)
    neurons = neuron_layers(net)
    if not neurons:
        raise ArgumentError(f"{type(net).__name__} has no neurons; name the layer whose features are aligned")
    last = next(reversed(neurons))
    return Tap(last, "membrane" if has_membrane(neurons[last]) else "output")


def neuron_layers(net: nn.Module) -> dict[str, Neuron]:
    """The neurons of `net` by name, in the order in which they are registered."""
    return {name: module for name, module in net.named_modules() if isinstance(module, Neuron)}


def has_membrane(neuron: Neuron) -> bool:
    """Whether its state has a membrane `v`."""
    return "v" in neuron.state_names


def check_tap(net: nn.Module, tap: Tap) -> nn.Module:
    """The module at `tap`; `ArgumentError` that names the nearest layer, or says what it has."""
    modules = dict(net.named_modules())
    if tap.what not in WHATS:
        raise ArgumentError(f"what must be one of {', '.join(WHATS)}; got {tap.what!r}")
    if tap.layer not in modules or not tap.layer:
        known = [*neuron_layers(net), *modules]
        raise ArgumentError(f"{type(net).__name__} has no layer {tap.layer!r}{nearest(tap.layer, known)}")
    module = modules[tap.layer]
    if tap.what == "membrane" and not (isinstance(module, Neuron) and has_membrane(module)):
        raise ArgumentError(
            f"layer {tap.layer!r} is a {type(module).__name__}, which has no membrane; take its output or input"
        )
    return module


@contextmanager
def tapped(net: nn.Module, taps: Tap | Sequence[Tap]) -> Iterator[list[Tensor]]:
    """Collect the features of every tap in a forward pass inside the block, in the order of `taps`.

    Gradients flow through them. A membrane is recorded by running the neuron's equations step by step, in place of
    its fused form. The list is filled when the block ends; a layer that is called several times gives its last call.
    """
    wanted = [taps] if isinstance(taps, Tap) else list(taps)
    seen: dict[int, Tensor] = {}
    handles: list[Any] = []
    replaced: list[nn.Module] = []
    found: list[Tensor] = []
    try:
        for number, tap in enumerate(wanted):
            module = check_tap(net, tap)
            if tap.what == "membrane":
                assert isinstance(module, Neuron)
                _record(module, number, seen)
                replaced.append(module)
            elif tap.what == "output":
                handles.append(module.register_forward_hook(_keep_output(number, seen)))
            else:
                handles.append(module.register_forward_pre_hook(_keep_input(number, seen)))
        yield found
    finally:
        for handle in handles:
            handle.remove()
        for module in replaced:
            module.__dict__.pop("scan", None)
    silent = [tap.layer for number, tap in enumerate(wanted) if number not in seen]
    if silent:
        raise ArgumentError(f"layer {silent[0]!r} was not called in this pass")
    found += [seen[number] for number in range(len(wanted))]


def _keep_output(number: int, seen: dict[int, Tensor]) -> Any:
    def keep(_module: nn.Module, _given: Any, out: Tensor) -> None:
        seen[number] = out

    return keep


def _keep_input(number: int, seen: dict[int, Tensor]) -> Any:
    def keep(_module: nn.Module, given: tuple[Any, ...]) -> None:
        seen[number] = given[0]

    return keep


def _record(neuron: Neuron, number: int, seen: dict[int, Tensor]) -> None:
    place = neuron.state_names.index("v")
    before = neuron.__dict__.get("scan")

    def scan(x: Tensor, state: State | None, keep_state: bool) -> tuple[Tensor, State | None]:
        work = torch.float32 if x.dtype in (torch.float16, torch.bfloat16) else x.dtype
        if state is None:
            state = neuron.initial_state(x[0].to(work))
        spikes: list[Tensor] = []
        membranes: list[Tensor] = []
        for x_t in x.to(work).unbind(0):
            s, state = neuron.step(x_t, state)
            spikes.append(s)
            membranes.append(state[place])
        seen[number] = torch.stack(membranes)
        return torch.stack(spikes).to(x.dtype), state if keep_state else None

    if before is not None:
        raise ArgumentError("the membrane of one layer is tapped twice")
    neuron.__dict__["scan"] = scan  # what `forward` finds before the method of the class
