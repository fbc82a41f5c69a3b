"""Running sums behind each row of a report; no tensor of the run outlives the call that made it."""

from __future__ import annotations

import torch
from torch import Tensor

from ranvier.measure.bits import one_bits
from ranvier.measure.energy.neuron_ops import priced_as
from ranvier.measure.report import NeuronRow, NormRow, Operand, Row
from ranvier.measure.synaptic import OpKind, Product, Synapses, product_total, weight_count
from ranvier.measure.values import ValueSet


class OperandTally:
    """One side of an op over the run."""

    def __init__(self, max_count: int) -> None:
        self.values = ValueSet(max_count)
        self.size_sum = 0.0
        self.from_synapses = False
        self.bits = (0, 0)  # ones and all, where they are counted

    def add(self, x: Tensor) -> int:
        """Take in one call's values; returns how many are not zero."""
        nonzero = self.values.add(x)
        if not self.values.real:
            self.size_sum += float(x.abs().sum(dtype=torch.float64)) if not self.values.plain else nonzero
        return nonzero

    def add_bits(self, x: Tensor, bits: int, T: int) -> None:
        """Count the one-bits of one call's values (see `ranvier.measure.bits.one_bits`)."""
        ones, places = one_bits(x, bits, T)
        self.bits = self.bits[0] + ones, self.bits[1] + places

    def finish(self, samples: int) -> Operand:
        judged = self.values.judge()
        return Operand(
            input_class=judged.input_class,
            scale=judged.scale,
            max_count=judged.max_count,
            elements=self.values.elements / samples,
            nonzero=self.values.nonzero / samples,
            count=self.size_sum / judged.scale / samples if judged.input_class != "real" else 0.0,
            from_synapses=self.from_synapses,
            one_bits=self.bits[0] / self.bits[1] if self.bits[1] else None,
        )


class SynapticTally:
    """One synaptic op of one module over the run."""

    def __init__(self, name: str, module: str, kind: OpKind, max_count: int) -> None:
        self.name, self.module = name, module
        self.kind: OpKind = kind
        self.left = OperandTally(max_count)
        self.right: OperandTally | None = None
        self._max_count = max_count
        self.synops = self.unrolled = 0.0
        self.macs = self.padded = self.macs_once = 0
        self.outputs = 0
        self.spikes_out: int | None = None
        self.weights = self.fan_channels = self.calls = 0
        self.bias = False
        self.static = True
        self.kernel: tuple[int, ...] = ()
        self.stride: tuple[int, ...] = ()
        self.channels = 0

    def add_synapses(self, op: Synapses, outputs: int, static_steps: int) -> None:
        """One call; `static_steps` is T where the input repeats over T equal steps, else 1."""
        self.left.add(op.input)
        synops = op.total(op.input != 0)
        self.synops += synops
        values = self.left.values
        if not values.real:
            self.unrolled += synops if values.plain else op.total(op.input.abs())
        self.weights = max(self.weights, weight_count(op.weight))
        self.bias |= op.bias
        self.fan_channels, self.channels = op.fan_channels, op.channels or op.fan_channels
        self.kernel, self.stride = op.kernel, op.stride
        self._add_dense(op.macs, op.padded_macs, outputs, static_steps)

    def add_product(self, op: Product, outputs: int) -> None:
        """One call of a product of two activations."""
        if self.right is None:
            self.right = OperandTally(self._max_count)
        self.left.add(op.left)
        left_mask = op.left != 0
        if op.right is None:  # dense real values: every non-zero element of the left meets all of them
            self.right.values.real = True
            dense = op.macs // max(1, op.left.shape[2])
            self.right.values.elements += dense
            self.right.values.nonzero += dense
            self.synops += int(torch.count_nonzero(left_mask)) * (op.macs / max(1, op.left.numel()))
        else:
            self.right.add(op.right)
            synops = product_total(left_mask, op.right != 0)
            self.synops += synops
            if not self.left.values.real and not self.right.values.real:
                plain = self.left.values.plain and self.right.values.plain
                self.unrolled += synops if plain else product_total(op.left.abs(), op.right.abs())
        self._add_dense(op.macs, op.macs, outputs, 1)

    def _add_dense(self, macs: int, padded: int, outputs: int, static_steps: int) -> None:
        self.macs += macs
        self.padded += padded
        self.macs_once += macs // static_steps
        self.static &= static_steps > 1
        self.outputs += outputs
        self.calls += 1

    def finish(self, samples: int) -> Row:
        left = self.left.finish(samples)
        right = self.right.finish(samples) if self.right else None
        real = left.input_class == "real" or (right is not None and right.input_class == "real")
        scale = left.scale * (right.scale if right else 1.0)
        return Row(
            name=self.name,
            module=self.module,
            op=self.kind,
            input=left,
            other=right,
            synops=self.synops / samples,
            unrolled=None if real else self.unrolled / scale / samples,
            macs_dense=self.macs / samples,
            macs_padded=self.padded / samples,
            macs_dense_once=(self.macs_once if self.static else self.macs) / samples,
            outputs=self.outputs / samples,
            spikes_out=None if self.spikes_out is None else self.spikes_out / samples,
            weights=self.weights,
            bias=self.bias,
            fan_channels=self.fan_channels,
            static=self.static,
            calls=self.calls,
            kernel=self.kernel,
            stride=self.stride,
            channels=self.channels,
        )


class NeuronTally:
    """One neuron layer over the run."""

    def __init__(self, name: str, neuron: type, scale: float, T: int, max_count: int) -> None:
        self.name, self.neuron, self.scale = name, neuron, scale
        self.values = ValueSet(max_count)
        self._fired = torch.zeros(T, dtype=torch.int64)
        self._places = torch.zeros(T, dtype=torch.int64)
        self._size_sum = 0.0
        self._ever: Tensor | None = None
        self._varies = False

    def add(self, spikes: Tensor, step: int | None, rows: int) -> int:
        """All T steps at once (`step` None, T outermost) or one step; `rows` leading entries are times × samples."""
        nonzero = self.values.add(spikes)
        self._size_sum += float(spikes.abs().sum(dtype=torch.float64))
        mask = spikes != 0
        if step is None:
            per_step = mask.reshape(len(self._fired), -1)
            self._fired += per_step.sum(1).cpu()
            self._places += per_step.shape[1]
        else:
            self._fired[step] += nonzero
            self._places[step] += spikes.numel()
        ever = mask.reshape(rows, -1).any(0)
        if self._ever is not None and self._ever.shape != ever.shape:
            self._varies = True
        self._ever = ever if self._ever is None or self._varies else self._ever | ever
        return nonzero

    def finish(self, samples: int) -> NeuronRow:
        used = self._places > 0
        density = (self._fired[used].double() / self._places[used]).tolist()
        elements = max(1, self.values.elements)
        return NeuronRow(
            name=self.name,
            neuron=self.neuron.__name__,
            priced_as=priced_as(self.neuron),
            input_class=self.values.judge().input_class,
            neurons=self.values.elements / samples / max(1, len(density)),
            steps=len(density),
            density=tuple(density),
            mean_count=self._size_sum / self.scale / elements,
            silent=None if self._varies or self._ever is None else float((~self._ever).double().mean()),
            spikes=self.values.nonzero / samples,
        )


class NormTally:
    """One batch norm over the run."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.elements = 0
        self.folded = True

    def finish(self, samples: int) -> NormRow:
        return NormRow(self.name, self.elements / samples, self.folded)
