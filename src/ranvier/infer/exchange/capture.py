"""Which layers a net applies to what, found by running it once: the graph that exchange formats are written from."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, resolve_name

from ranvier.errors import ArgumentError, ShapeError
from ranvier.layers.delays import DelayConv2d, DelayLinear, DenseDelayLinear
from ranvier.layers.dropout import SequenceDropout
from ranvier.layers.leaky_readout import LeakyReadout
from ranvier.neurons import Neuron
from ranvier.state import Stateful

LAYERS: tuple[type[nn.Module], ...] = (
    nn.Linear, nn.Conv1d, nn.Conv2d, nn.BatchNorm1d, nn.BatchNorm2d, nn.AvgPool2d, nn.MaxPool2d,
    nn.AdaptiveAvgPool2d, DelayLinear, DenseDelayLinear, DelayConv2d, LeakyReadout, Neuron,
)  # fmt: skip
PASSING: tuple[type[nn.Module], ...] = (nn.Dropout, nn.Dropout2d, nn.Identity, SequenceDropout)
_STEPS, _BATCH = 3, 2

_VIEWS = frozenset({
    "flatten", "unflatten", "view", "view_as", "reshape", "squeeze", "unsqueeze", "contiguous", "clone", "detach", "to",
    "float", "double",
})  # fmt: skip


@dataclass
class Step:
    """One operation of the captured net.

    Attributes:
        kind: "input", "layer", "flatten", "scale", "mean" (over the last axes) or "sum".
        sources: the operations whose results it takes.
        shape: of one sample at one step, after it.
        module: the layer, for a layer; value: the factor, for a scale.
    """

    name: str
    kind: str
    sources: list[Step]
    shape: tuple[int, ...]
    module: nn.Module | None = None
    value: float = 1.0

    @property
    def before(self) -> tuple[int, ...]:
        """Shape of one sample at one step, before it."""
        return self.sources[0].shape


@dataclass
class Capture:
    """The operations of a net in the order in which they ran, and the one whose result it returns."""

    steps: list[Step] = field(default_factory=list)
    output: Step | None = None


def example_of(model: nn.Module, example: Tensor | None) -> Tensor:
    """A sequence `[T, B, ...]` to run `model` on: `example`, or zeros of the model's `input_shape`."""
    if example is None:
        shape = getattr(model, "input_shape", None)
        if shape is None:
            raise ArgumentError("example: the model names no input_shape; give a sequence [T, B, ...] to trace it with")
        example = torch.zeros(_STEPS, _BATCH, *shape)
    if not isinstance(example, Tensor) or example.dim() < 3 or 0 in example.shape:
        raise ShapeError(f"example must be a sequence [T, B, ...], got {getattr(example, 'shape', example)!r}")
    parameter = next(model.parameters(), None)
    like = example if parameter is None else parameter
    one = example[:1, :1].to(like.device, like.dtype)
    return one.expand(_STEPS, _BATCH, *one.shape[2:]).contiguous()


def capture(model: nn.Module, example: Tensor | None = None) -> Capture:
    """Run `model` in eval mode on a sequence `[T, B, ...]` and note what it does.

    A static image is not traced: its encoder makes the sequence that the graph starts from. Raises `ArgumentError`
    that names the first operation which is neither a known layer nor a rearrangement, sum or scaling.
    """
    x = example_of(model, example)
    found = Capture()
    watcher = _Watcher(found, model)
    first = watcher.tag(x, Step("input", "input", [], tuple(x.shape[2:])))
    training = model.training
    try:
        with torch.no_grad(), watcher.hooks(), watcher:
            out = model.eval()(first)
    finally:
        model.train(training)
    if not isinstance(out, Tensor):
        raise ArgumentError(f"model: must return one tensor [T, B, ...], got {type(out).__name__}")
    step = watcher.known.get(id(out))
    if step is None:
        raise ArgumentError("model: its output does not come from its input by operations that can be written")
    if tuple(out.shape) != (_STEPS, _BATCH, *step[1].shape):
        raise ArgumentError(f"model: must return per-step outputs [T, B, ...], got {tuple(out.shape)} for T = {_STEPS}")
    found.output = step[1]
    return found


class _Watcher(TorchFunctionMode):
    """Follows tensors from layer to layer; inside a layer it looks away."""

    def __init__(self, found: Capture, model: nn.Module) -> None:
        super().__init__()
        self.found, self.model = found, model
        self.known: dict[int, tuple[Tensor, Step]] = {}  # the tensor is kept, so that its id stays its own
        self.inside = 0
        self.where: list[str] = []
        self.names: set[str] = set()

    def tag(self, tensor: Tensor, step: Step) -> Tensor:
        """Note that `tensor` is the result of `step`."""
        if all(step is not s for s in self.found.steps):
            base, n = step.name, 1
            while step.name in self.names:
                n += 1
                step.name = f"{base}_{n}"
            self.names.add(step.name)
            self.found.steps.append(step)
        self.known[id(tensor)] = (tensor, step)
        return tensor

    def source(self, tensor: Any) -> Step | None:
        """The operation that `tensor` comes from; None for a constant."""
        entry = self.known.get(id(tensor))
        return None if entry is None else entry[1]

    @contextmanager
    def hooks(self) -> Iterator[None]:
        """Watch the calls of modules inside the block."""
        handles: list[Any] = []
        for name, module in self.model.named_modules():
            before, after = self._around(name, module)
            handles += [module.register_forward_pre_hook(before), module.register_forward_hook(after)]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _around(self, name: str, module: nn.Module) -> tuple[Callable[..., None], Callable[..., None]]:
        whole = isinstance(module, (*LAYERS, *PASSING))
        if not whole and isinstance(module, Stateful) and module is not self.model:
            whole = True  # a layer with state that nothing here knows; it is named when it is called
        label = name or type(module).__name__

        def before(_: nn.Module, inputs: tuple[Any, ...]) -> None:
            self.where.append(label)
            if whole and not self.inside and not isinstance(module, (*LAYERS, *PASSING)):
                raise ArgumentError(f"layer {label!r} ({type(module).__name__}) has no counterpart in the format")
            self.inside += whole

        def after(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            self.where.pop()
            self.inside -= whole
            if whole and not self.inside:
                self._called(label, module, inputs, output)

        return before, after

    def _called(self, name: str, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        source = self.source(inputs[0])
        if source is None or len(inputs) != 1:
            raise ArgumentError(f"layer {name!r} takes something that does not come from the input alone")
        if isinstance(module, PASSING):
            self.tag(output, source)
            return
        if getattr(module, "tail", 0):
            raise ArgumentError(
                f"layer {name!r} appends tail={module.tail} steps to its input, which no graph says; set model.tail = 0"
            )
        self.tag(output, Step(name, "layer", [source], self._features(output, name), module))

    def _features(self, tensor: Tensor, where: str) -> tuple[int, ...]:
        shape = tuple(tensor.shape)
        if shape[:2] == (_STEPS, _BATCH):
            return shape[2:]
        if shape[:1] == (_STEPS * _BATCH,):
            return shape[1:]
        raise ArgumentError(
            f"{where!r} makes a tensor of shape {shape} from {_STEPS} steps of {_BATCH} samples: steps and samples "
            "must stay its first axes"
        )

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if self.inside or not isinstance(out, Tensor):
            self._no_pieces(out, func, args)
            return out
        flat = [a for a in (*args, *kwargs.values()) if isinstance(a, Tensor)]
        sources = [s for s in map(self.source, flat) if s is not None]
        if sources:
            self._computed(_name(func), sources, flat, args, kwargs, out)
        return out

    def _no_pieces(self, out: Any, func: Any, args: Any) -> None:
        if self.inside or not isinstance(out, tuple | list) or not any(isinstance(o, Tensor) for o in out):
            return
        if args and self.source(args[0]) is not None:
            raise ArgumentError(f"{self._place()} takes its input apart ({_name(func)}), which the format cannot say")

    def _place(self) -> str:
        return f"module {self.where[-1]!r}" if self.where else "the model"

    def _computed(
        self, name: str, sources: list[Step], tensors: list[Tensor], args: Any, kwargs: dict[str, Any], out: Tensor
    ) -> None:
        first = sources[0]
        shape = self._features(out, f"{name} in {self._place()}")
        if name in _VIEWS and self.source(args[0]) is first:  # `view_as` also looks at another tensor
            if shape == first.shape:
                self.tag(out, first)
            elif shape == (math.prod(first.shape),):
                self.tag(out, Step("flatten", "flatten", [first], shape))
            elif tuple(s for s in shape if s != 1) == tuple(s for s in first.shape if s != 1) or len(shape) > 1:
                self._reshaped(name, first, shape, out)
            return
        if name in ("add", "__add__", "iadd", "add_") and len(sources) == 2 and first.shape == sources[1].shape:
            if not kwargs.get("alpha", 1) == 1:
                raise ArgumentError(f"{self._place()} adds with alpha={kwargs['alpha']!r}, which the format cannot say")
            self.tag(out, Step("sum", "sum", sources, shape))
            return
        scalars = [a for a in args if isinstance(a, int | float) and not isinstance(a, bool)]
        if name in ("mul", "div", "truediv") and len(tensors) == 1 and len(scalars) == 1:
            factor = float(scalars[0]) if name == "mul" else 1 / float(scalars[0])
            self.tag(out, Step("scale", "scale", [first], shape, value=factor))
            return
        if name == "mean" and len(sources) == 1 and shape == first.shape[:1] and len(first.shape) in (2, 3):
            self.tag(out, Step("mean", "mean", [first], shape))
            return
        what = " and ".join(str(s.shape) for s in sources)
        raise ArgumentError(
            f"{self._place()} applies torch's {name!r} to {what} per step, which the format has no operation for"
        )

    def _reshaped(self, name: str, first: Step, shape: tuple[int, ...], out: Tensor) -> None:
        before = first.sources[0] if first.kind == "flatten" else None
        if before is not None and before.shape == shape:  # undone
            self.tag(out, before)
            return
        if len(first.shape) == 3 and shape == (first.shape[0], first.shape[1] * first.shape[2]):
            self.tag(out, Step("tokens", "tokens", [first], shape))  # [C, H, W] to [C, H·W], on the way to a mean
            return
        raise ArgumentError(
            f"{self._place()} rearranges features from {first.shape} to {shape} ({name}), which the format cannot say"
        )


def _name(func: Any) -> str:
    full: str = resolve_name(func) or getattr(func, "__name__", str(func))
    return full.rsplit(".", 1)[-1].strip("_") if "__" in full else full.rsplit(".", 1)[-1]
