"""Why does it not learn? Silent, saturated and gradient-dead layers, with the likely cause and what to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ranvier.errors import ArgumentError
from ranvier.measure.undisturbed import Batch, split_batch, undisturbed
from ranvier.neurons import Neuron
from ranvier.packing import Packed

Kind = Literal["silent", "partly silent", "saturated", "gradient-dead", "not finite"]

SILENT_BELOW = 0.005
SATURATED_ABOVE = 0.9
DEAD_GRADIENT = 1e-6  # of the largest gradient at a neuron layer
CALIBRATE = "ranvier.measure.calibrate_gain(model, batch)"


@dataclass(frozen=True)
class Problem:
    """What is wrong with a layer, the likely cause, and what to try."""

    kind: Kind
    cause: str
    remedy: str


@dataclass(frozen=True)
class LayerHealth:
    """A neuron layer on one batch.

    `rate`: share of non-zero outputs. `silent` and `saturated`: share of its neurons that never fire, that fire at
    every step. `input_mean`, `input_std`: of the input current, in thresholds. `gradient`: root mean square of the
    loss's gradient at its input (None: no path from there to the loss).
    """

    name: str
    neuron: str
    rate: float
    silent: float
    saturated: float
    input_mean: float
    input_std: float
    gradient: float | None
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True)
class HealthReport:
    """The result of `health`: neuron layers in the order in which they fire, and parameters without any gradient."""

    layers: tuple[LayerHealth, ...]
    dead_parameters: tuple[str, ...]
    loss: float

    @property
    def healthy(self) -> bool:
        """Whether no layer has a problem and every trainable parameter has a gradient."""
        return not self.dead_parameters and not any(layer.problems for layer in self.layers)

    @property
    def problems(self) -> tuple[tuple[str, Problem], ...]:
        """(layer, problem), in the order in which the layers fire."""
        return tuple((layer.name, problem) for layer in self.layers for problem in layer.problems)

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-ready values."""
        return {"healthy": self.healthy, **asdict(self)}

    def __str__(self) -> str:
        width = max([5, *(len(layer.name) for layer in self.layers)])
        lines = [f"{'layer':{width}}  {'rate':>7}  {'silent':>7}  {'input':>16}  {'gradient':>9}"]
        for layer in self.layers:
            current = f"{layer.input_mean:.2g} ± {layer.input_std:.2g} θ"
            gradient = "none" if layer.gradient is None else f"{layer.gradient:.2g}"
            lines.append(f"{layer.name:{width}}  {layer.rate:7.2%}  {layer.silent:7.2%}  {current:>16}  {gradient:>9}")
        lines += [f"{name} is {p.kind}: {p.cause}. {p.remedy}." for name, p in self.problems]
        if self.dead_parameters:
            lines.append(f"no gradient reaches: {', '.join(self.dead_parameters)}")
        return "\n".join([*lines, "healthy" if self.healthy else "not healthy"])


@dataclass
class _Seen:
    """What the hooks saw of one neuron layer, all its calls together."""

    neuron: Neuron
    inputs: list[Tensor]
    outputs: list[Tensor]


def health(
    model: nn.Module,
    batch: Batch | Packed | tuple[Packed, Tensor],
    loss: Callable[[Tensor], Tensor] | None = None,
) -> HealthReport:
    """Look at every neuron layer of `model` in one forward and one backward pass.

    The model is left as it was: parameters, their `.grad`, buffers, mode, random numbers, carried state; no hook
    stays. It is looked at in the mode it is in: call it in training mode to see what training sees.

    Args:
        model: any module with `ranvier` neurons.
        batch: input `x` as the model takes it, or `(x, y)` with class labels; of a packed batch (`ranvier.pack`) only
            valid steps count, each of them with the label of its sequence.
        loss: scalar loss of the model's output. Default: cross-entropy of the logits' mean over T, with `y`, or with
            labels 0, 1, 2, … in turn where there is no y; the mean square of an output that is not `[T, B, classes]`.

    Raises `ArgumentError` for a model without neurons and for a batch that is not finite.
    """
    packed = batch[0] if isinstance(batch, tuple | list) and batch else batch
    packing = packed.packing if isinstance(packed, Packed) else None
    if isinstance(packed, Packed):
        batch = (packed.data, batch[1][packed.sequence]) if isinstance(batch, tuple | list) else packed.data
    x, y = split_batch(batch)
    names = {name: module for name, module in model.named_modules() if isinstance(module, Neuron)}
    if not names:
        raise ArgumentError(f"{type(model).__name__} has no neurons of ranvier.neurons to look at")
    seen: dict[str, _Seen] = {}

    def hook(name: str) -> Callable[[nn.Module, tuple[Any, ...], Tensor], None]:
        def note(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
            assert isinstance(module, Neuron)
            entry = seen.setdefault(name, _Seen(module, [], []))
            entry.inputs.append(inputs[0])
            entry.outputs.append(output)

        return note

    with torch.inference_mode(False), torch.enable_grad(), undisturbed(model):
        handles = [module.register_forward_hook(hook(name)) for name, module in names.items()]
        try:
            probe = x.detach().clone()
            if probe.is_floating_point():
                probe.requires_grad_()
            output = model(probe) if packing is None else Packed(probe, packing).through(model).data.unsqueeze(0)
        finally:
            for handle in handles:
                handle.remove()
        value = _loss(output, y) if loss is None else loss(output)
        gradients, dead = _gradients(model, value, seen)
    largest = max((g for pair in gradients.values() if (g := pair[0]) is not None and g < float("inf")), default=0.0)
    layers: list[LayerHealth] = []
    for name, entry in seen.items():
        layers.append(_examined(name, entry, gradients, largest, layers))
    return HealthReport(tuple(layers), dead, float(value.detach()))


def _loss(output: Tensor, y: Tensor | None) -> Tensor:
    if output.dim() != 3 or output.shape[-1] < 2:
        return output.square().mean()
    logits = output.mean(0)
    labels = torch.arange(len(logits), device=logits.device) % logits.shape[-1] if y is None else y
    return F.cross_entropy(logits, labels)


Gradients = dict[str, tuple[float | None, float | None]]


def _gradients(model: nn.Module, value: Tensor, seen: dict[str, _Seen]) -> tuple[Gradients, tuple[str, ...]]:
    """Root mean squares of the gradients at (input, output) of every layer, and the parameters without gradient."""
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    watched = [t for entry in seen.values() for t in (*entry.inputs, *entry.outputs) if t.requires_grad]
    wanted = [*watched, *parameters.values()]
    if not value.requires_grad or not wanted:
        return dict.fromkeys(seen, (None, None)), tuple(parameters)
    found = torch.autograd.grad(value, wanted, allow_unused=True)
    at = {id(t): g for t, g in zip(wanted, found, strict=True)}

    def size(tensors: list[Tensor]) -> float | None:
        grads = [g for t in tensors if (g := at.get(id(t))) is not None]
        if not grads:
            return None
        total = sum(float(g.double().square().sum()) for g in grads)
        return (total / sum(g.numel() for g in grads)) ** 0.5

    sizes = {name: (size(entry.inputs), size(entry.outputs)) for name, entry in seen.items()}
    dead = tuple(name for name, p in parameters.items() if (g := at[id(p)]) is None or not bool(g.any()))
    return sizes, dead


@torch.no_grad()
def _examined(
    name: str, entry: _Seen, gradients: Gradients, largest: float, before: list[LayerHealth]
) -> LayerHealth:  # fmt: skip
    fired = torch.cat([s.detach().ne(0).flatten(0, 1) for s in entry.outputs])  # [calls · T · B, ...]
    current = torch.cat([i.detach().double().flatten() for i in entry.inputs])
    theta = getattr(entry.neuron, "threshold", None)
    theta = float(theta.detach().mean()) if isinstance(theta, Tensor) else 1.0
    mean, std = float(current.mean()) / theta, float(current.std(correction=0)) / theta
    layer = LayerHealth(
        name, type(entry.neuron).__name__, rate=float(fired.double().mean()),
        silent=float((~fired.any(0)).double().mean()), saturated=float(fired.all(0).double().mean()),
        input_mean=mean, input_std=std, gradient=gradients[name][0],
    )  # fmt: skip
    problems: list[Problem] = []
    finite = bool(current.isfinite().all()) and all(bool(s.isfinite().all()) for s in entry.outputs)
    if not finite:
        problems.append(Problem("not finite", "its input or output holds NaN or infinity", "Lower the learning rate"))
    else:
        silence = _silence(layer, current, theta, fired.shape[0], before)
        problems += [silence] if silence else []
        if layer.rate > SATURATED_ABOVE:
            problems.append(
                Problem(
                    "saturated", f"its input averages {mean:.2g} thresholds",
                    f"Normalise what enters it, raise its threshold ({theta:g}), or lower the gain with {CALIBRATE}",
                )
            )  # fmt: skip
    stuck = _stuck(entry.neuron, *gradients[name], largest)
    problems += [stuck] if stuck else []
    return replace(layer, problems=tuple(problems))


def _silence(
    layer: LayerHealth, current: Tensor, theta: float, chances: int, before: list[LayerHealth]
) -> Problem | None:  # fmt: skip
    if layer.rate < SILENT_BELOW:
        if not bool(current.any()):
            mute = [b.name for b in before if any(p.kind == "silent" for p in b.problems)]
            where = f": {mute[-1]!r} before it is silent" if mute else ""
            look = f"Make {mute[0]!r} fire first" if mute else "Look at the input and at the weights before it"
            return Problem("silent", f"nothing but zeros enters it{where}", look)
        peak = float(current.max()) / theta
        if peak <= 0:
            return Problem(
                "silent", f"its input is never positive (mean {layer.input_mean:.2g} thresholds)",
                "Look at the bias before it, or put a batch norm there",
            )  # fmt: skip
        return Problem(
            "silent",
            f"its input is too weak: {layer.input_mean:.2g} ± {layer.input_std:.2g} thresholds, at most {peak:.2g}",
            f"Raise the gain with {CALIBRATE}, put a batch norm before it, or lower its threshold ({theta:g})",
        )  # fmt: skip
    expected = (1 - layer.rate) ** chances  # silent by chance, if all neurons fired alike
    if layer.silent > 0.5 and expected < 0.05:
        return Problem(
            "partly silent", f"{layer.silent:.0%} of its neurons never fire while the others carry the rate",
            "Put a batch norm before it, so that every channel gets its share",
        )  # fmt: skip
    return None


def _stuck(neuron: Neuron, at_input: float | None, at_output: float | None, largest: float) -> Problem | None:
    if at_input is None and at_output is None:
        return Problem(
            "gradient-dead", "there is no path from it to the loss",
            "Look for a detach, a no_grad block or an output that nobody uses",
        )  # fmt: skip
    size = at_input if at_input is not None else at_output
    assert size is not None
    if size != size or size == float("inf"):
        return Problem(
            "not finite", "the gradient at its input is NaN or infinite",
            "Use a smaller surrogate slope, detach the reset, or clip the gradient",
        )  # fmt: skip
    if size > DEAD_GRADIENT * largest and size > 0:
        return None
    if at_input is None:
        return None  # nothing trainable before it
    if not at_output:
        return Problem("gradient-dead", "the gradient is already zero where it leaves", "Look at the layers behind it")
    if size == 0:
        return Problem(
            "gradient-dead", f"the surrogate {neuron.surrogate.name!r} is zero at all of its membranes",
            f"Use a wider surrogate (sigmoid or atan with a small alpha), or bring membranes to θ with {CALIBRATE}",
        )  # fmt: skip
    return Problem(
        "gradient-dead", f"its gradient is {size / largest:.1g} of the largest at any neuron layer",
        "Use a wider surrogate, add shortcuts past it, or fewer steps",
    )  # fmt: skip
