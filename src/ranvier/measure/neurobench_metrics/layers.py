"""Which modules NeuroBench looks at, found as it finds them: among the children, not below what it knows."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import nn

from ranvier.measure.counter import is_spiking

STATELESS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
RECURRENT = (nn.RNNBase, nn.RNNCellBase)
ACTIVATIONS = (nn.ReLU, nn.Sigmoid)


def is_snntorch(module: nn.Module) -> bool:
    """Whether `module` is a spiking neuron of snnTorch (which need not be installed to ask)."""
    return any(c.__name__ == "SpikingNeuron" and c.__module__.startswith("snntorch") for c in type(module).__mro__)


def connections(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Linear layers, convolutions and recurrent modules, with their dotted names."""
    yield from _below(model, "", lambda module: isinstance(module, STATELESS + RECURRENT))


def activations(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """ReLU and sigmoid modules and spiking neurons, ours and snnTorch's, with their dotted names."""
    yield from _below(
        model, "", lambda module: isinstance(module, ACTIVATIONS) or is_spiking(module) or is_snntorch(module)
    )


def _below(module: nn.Module, prefix: str, wanted: Callable[[nn.Module], bool]) -> Iterator[tuple[str, nn.Module]]:
    for name, child in module.named_children():
        if wanted(child):
            yield prefix + name, child
        else:
            yield from _below(child, f"{prefix}{name}.", wanted)
