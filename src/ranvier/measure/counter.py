"""The dispatch mode that sees every tensor op of a net and books the synaptic ones to the module that runs them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ranvier.measure.lineage import Lineage
from ranvier.measure.synaptic import (
    DELAYED,
    Product,
    Synapses,
    convolution,
    delayed,
    linear,
    matrix_factors,
    sparse_convolution,
)
from ranvier.measure.tally import NeuronTally, NormTally, SynapticTally
from ranvier.neurons import Neuron

_COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd
_FUSED_ATTENTION = "_scaled_dot_product_"
_HIDING = ("rnn", "lstm", "gru_", "_trilinear", "_native_multi_head", "_transformer_encoder", "_cdist", "_sparse_")
_ARITHMETIC = re.compile(
    r"_?(native_)?(add|sub|rsub|mul|div|sigmoid|tanh|gelu|silu|relu|leaky_relu|elu|exp|log|pow|sqrt|rsqrt|mean|sum|"
    r"cumsum|maximum|minimum|hardtanh|hardswish|softplus|addcmul|lerp|clamp)_?$|.*(pool|softmax|norm|upsample)"
)


def is_spiking(module: nn.Module) -> bool:
    """Whether `module` is a neuron layer: a `ranvier.neurons.Neuron`, or marked with `is_spiking_neuron = True`."""
    return isinstance(module, Neuron) or getattr(module, "is_spiking_neuron", False) is True


class _Scope:
    """One running module: its name and how many synaptic ops it has run itself."""

    def __init__(self, name: str, module: nn.Module | None, inside_neuron: bool = False) -> None:
        self.name, self.module, self.ops = name, module, 0
        self.neuron = module is not None and is_spiking(module)
        self.quiet = self.neuron or inside_neuron  # the neuron's own arithmetic has its own table


class Counter(TorchDispatchMode):
    """Counts while it is active; `begin` before and `end` after each pass, hooks from `watch`.

    Args:
        model: the net; ops outside its named modules are booked to the root, "".
        T: time steps of a pass.
        max_count: see `ValueSet`.
        activation_bits: also count the one-bits of what enters, quantised to so many bits.
    """

    def __init__(self, model: nn.Module, T: int, max_count: int, activation_bits: int | None = None) -> None:
        super().__init__()
        self.T = T
        self.synapses: dict[tuple[str, int, str], SynapticTally] = {}
        self.neurons: dict[str, NeuronTally] = {}
        self.norms: dict[str, NormTally] = {}
        self.elementwise: dict[str, int] = {}
        self.unseen: dict[str, None] = {}
        self._model, self._max_count, self._bits = model, max_count, activation_bits
        self._weights = [*model.parameters(), *model.buffers()]
        self._quiet = False
        self.begin((), 1)

    def begin(self, inputs: Iterable[Tensor], samples: int) -> None:
        """Start a pass of `samples` samples."""
        self._lineage = Lineage(self._weights, inputs)
        self._samples = samples
        self._scopes = [_Scope("", self._model)]
        self._neuron_calls: dict[str, int] = {}
        self._fired = False
        self._open: SynapticTally | None = None  # the last synaptic op, until a neuron layer takes its result

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # `count` runs compiled nets eagerly; the guard that this declines imports the compiler, seconds

    # --- modules -----------------------------------------------------------------------------------------------

    def watch(self, hooks: ExitStack) -> None:
        """Hook every module; closing `hooks` removes the hooks again."""
        for name, module in self._model.named_modules():
            hooks.callback(module.register_forward_pre_hook(self._enter(name), prepend=True).remove)
            hooks.callback(module.register_forward_hook(self._leave(name), always_call=True).remove)

    def _enter(self, name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def enter(module: nn.Module, args: tuple[Any, ...]) -> None:
            scope = _Scope(name, module, self._scopes[-1].quiet)
            self._scopes.append(scope)
            if scope.neuron and args and isinstance(args[0], Tensor):
                source = self._lineage.source(args[0])
                self._open = source if source is not None else self._open

        return enter

    def _leave(self, name: str) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        def leave(module: nn.Module, _: tuple[Any, ...], output: Any) -> None:
            while len(self._scopes) > 1 and self._scopes.pop().name != name:
                pass  # scopes that an exception skipped
            if is_spiking(module):
                first = output[0] if isinstance(output, tuple | list) and output else output
                if isinstance(first, Tensor):
                    self._quiet = True
                    try:
                        self._note_spikes(name, module, first)
                    finally:
                        self._quiet = False

        return leave

    def _note_spikes(self, name: str, module: nn.Module, spikes: Tensor) -> None:
        tally = self.neurons.get(name)
        if tally is None:
            scale = float(getattr(module, "output_scale", 1.0))
            tally = self.neurons[name] = NeuronTally(name, type(module), scale, self.T, self._max_count)
        call = self._neuron_calls.get(name, 0)
        self._neuron_calls[name] = call + 1
        rows = self.T * self._samples
        whole = spikes.numel() % rows == 0 and (
            (isinstance(module, Neuron) and spikes.shape[0] % self.T == 0)
            or tuple(spikes.shape[:2]) == (self.T, self._samples)
            or spikes.shape[0] == rows
        )
        if not whole:
            rows = self._samples if spikes.numel() % self._samples == 0 else 1
        nonzero = tally.add(spikes, None if whole else call % self.T, rows)
        if self._open is not None:
            self._open.spikes_out = (self._open.spikes_out or 0) + nonzero
            self._open = None
        self._fired = True

    # --- ops ---------------------------------------------------------------------------------------------------

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if self._quiet:
            return func(*args, **kwargs)
        if _composite(func):  # inference mode sends these whole
            with self:
                return func.decompose(*args, **kwargs)
        output = func(*args, **kwargs)
        namespace, _, name = func._schema.name.partition("::")
        outputs = _tensors(output)
        operands = [*_tensors(args), *_tensors(list(kwargs.values()))]
        writes = func._schema.is_mutable
        if writes:
            outputs += [t for argument, t in zip(func._schema.arguments, args, strict=False) if _written(argument, t)]
        self._lineage.follow(name, operands, outputs, writes)
        if outputs and outputs[0].numel():
            self._observe(name if namespace == "aten" else f"{namespace}.{name}", args, outputs[0])
        return output

    def _observe(self, name: str, args: tuple[Any, ...], output: Tensor) -> None:
        scope = self._scopes[-1]
        if scope.quiet:
            return
        factors = matrix_factors(name, args)
        if factors is not None:
            self._matrix_product(scope, *factors, output)
        elif name == "convolution":
            if not (self._lineage.is_weight(args[0]) and self._lineage.is_weight(args[1])):
                self._synapses(scope, convolution(args, output), output)
        elif name == "ranvier.sparse_conv":
            self._synapses(scope, sparse_convolution(args), output)
        elif name in DELAYED:
            self._synapses(scope, delayed(name, args), output)
        elif name.startswith(_FUSED_ATTENTION):
            self._fused_attention(scope, *args[:3])
        elif "batch_norm" in name:
            self._norm(scope, args[0], output)
        elif any(part in name for part in _HIDING):
            self.unseen[f"{scope.name or 'the net'}: {name}"] = None
        elif not self._lineage.is_weight(output) and _ARITHMETIC.match(name):
            self.elementwise[name] = self.elementwise.get(name, 0) + output.numel()

    def _tally(self, scope: _Scope, kind: Any) -> SynapticTally:
        key = (scope.name, scope.ops, kind)
        scope.ops += 1
        tally = self.synapses.get(key)
        if tally is None:
            name = scope.name or type(self._model).__name__.lower()
            name = name if key[1] == 0 else f"{name}[{key[1]}]"
            tally = self.synapses[key] = SynapticTally(name, scope.name, kind, self._max_count)
        return tally

    def _matrix_product(
        self, scope: _Scope, left: Tensor, right: Tensor, addend: Tensor | None, output: Tensor
    ) -> None:
        from_left, from_right = self._lineage.is_weight(left), self._lineage.is_weight(right)
        if from_left and from_right:
            return  # weights made from weights
        if not from_left and not from_right:
            self._product(scope, Product(left, right, left.numel() * right.shape[2]), output)
            return
        bias = addend is not None and self._lineage.is_weight(addend)
        if isinstance(scope.module, nn.Linear):
            bias |= scope.module.bias is not None  # of an input in odd strides it is added by an op of its own
        self._synapses(scope, linear(left, right, from_left, bias), output)

    def _synapses(self, scope: _Scope, op: Synapses, output: Tensor) -> None:
        tally = self._tally(scope, op.kind)
        static = self.T if self.T > 1 and not self._fired and _repeats(op.input, self.T) else 1
        tally.left.from_synapses |= self._lineage.source(op.input) is not None
        tally.add_synapses(op, output.numel(), static)
        if self._bits is not None:
            tally.left.add_bits(op.input, self._bits, self.T)
        self._result(tally, output)

    def _product(self, scope: _Scope, op: Product, output: Tensor | None) -> None:
        tally = self._tally(scope, "matmul")
        tally.add_product(op, op.macs // op.left.shape[2] if output is None else output.numel())
        tally.left.from_synapses |= self._lineage.source(op.left) is not None
        if self._bits is not None:
            tally.left.add_bits(op.left, self._bits, self.T)
        if tally.right is not None and op.right is not None:
            tally.right.from_synapses |= self._lineage.source(op.right) is not None
        if output is not None:
            self._result(tally, output)

    def _result(self, tally: SynapticTally, output: Tensor) -> None:
        self._lineage.mark(output, tally)
        self._open = tally

    def _fused_attention(self, scope: _Scope, q: Tensor, k: Tensor, v: Tensor) -> None:
        q, k, v = (t.reshape(-1, *t.shape[-2:]) for t in (q, k, v))
        if k.shape[0] != q.shape[0]:  # grouped queries
            k, v = (t.repeat_interleave(q.shape[0] // t.shape[0], 0) for t in (k, v))
        self._product(scope, Product(q, k.mT, q.numel() * k.shape[1]), None)
        self._product(scope, Product(v, None, q.shape[0] * q.shape[1] * v.shape[1] * v.shape[2]), None)

    def _norm(self, scope: _Scope, x: Tensor, output: Tensor) -> None:
        tally = self.norms.setdefault(scope.name, NormTally(scope.name))
        tally.elements += output.numel()
        tally.folded &= self._lineage.source(x) is not None


def _composite(func: Any) -> bool:
    """Whether `func` is an operation of PyTorch that is made of others."""
    compiled = _compiled_composite(func)
    return compiled is True or (compiled is False and _COMPOSITE in func.py_kernels)


@cache
def _compiled_composite(func: Any) -> bool | None:
    if not func._schema.name.startswith("aten::"):
        return None
    return torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), _COMPOSITE)


def _written(argument: Any, value: Any) -> bool:
    return isinstance(value, Tensor) and argument.alias_info is not None and argument.alias_info.is_write


def _repeats(x: Tensor, T: int) -> bool:
    """Whether x consists of T equal steps, T outermost."""
    if x.shape[0] == 1 and x.dim() == 3:  # the [1, M, K] of a plain matrix product
        x = x[0]
    if x.shape[0] % T:
        return False
    steps = x.reshape(T, -1)
    return bool((steps[1:] == steps[0]).all())


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, tuple | list):
        return [tensor for entry in value for tensor in _tensors(entry)]
    return []
