"""Equations that cannot become a kernel run as the loop, with the same numbers and a reason; nothing is left behind."""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.ops.step_scan_neurons import OwnLIF
from torch import Tensor, nn

from ranvier.errors import ShapeError
from ranvier.neurons import KLIF, Neuron
from ranvier.ops.step_scan import explain
from ranvier.ops.step_scan.source_files import module_of
from ranvier.state import State


class _OneState(Neuron):
    def __init__(self, **attributes: Any) -> None:
        super().__init__()
        for name, value in attributes.items():
            setattr(self, name, value)

    def initial_state(self, like: Tensor) -> State:
        return (torch.zeros_like(like),)

    def fire(self, v: Tensor) -> tuple[Tensor, State]:
        s = self.surrogate(v - 1)
        return s, (v * (1 - s.detach()),)


class Sorts(_OneState):
    def step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
        return self.fire(0.5 * state[0] + torch.sort(x_t, dim=-1).values)


class Decides(_OneState):
    def step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
        return self.fire(state[0] + x_t if state[0].max() > 0.5 else state[0] + 2 * x_t)


class Averages(_OneState):
    def step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
        return self.fire(0.5 * state[0] + x_t - x_t.mean(-1, keepdim=True))


class Inhibits(_OneState):
    """Divides by a sum over the neurons: in the backward pass everything depends on everything."""

    def step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
        return self.fire(0.5 * state[0] + x_t.softmax(-1))


class Multiplies(_OneState):
    def step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
        return self.fire(0.5 * state[0] + self.layer(x_t))


class Noisy(_OneState):
    def step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
        return self.fire(0.5 * state[0] + x_t + torch.randn_like(x_t))


class NoisyParameter(_OneState):
    def step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
        return self.fire(0.5 * state[0] + x_t * torch.rand(()))


class Counts(_OneState):
    def step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
        self.calls += 1
        return self.fire(0.5 * state[0] + x_t / self.calls)


class Remembers(_OneState):
    def step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
        self.last = 0.5 * state[0] + x_t
        return self.fire(self.last)


class WritesBuffer(_OneState):
    def step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
        self.total.add_(1)
        return self.fire(0.5 * state[0] + x_t + self.total)


class Elsewhere(_OneState):
    def step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
        return self.fire(0.5 * state[0] + x_t * self.kept["gain"])


class Wide(_OneState):
    """The state is larger than a step."""

    def initial_state(self, like: Tensor) -> State:
        return (torch.zeros(2, *like.shape),)

    def step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
        v = torch.stack([state[0][0] * 0.5 + x_t, state[0][1] + x_t])
        return self.surrogate(v.sum(0) - 1), (v,)


class Integers(_OneState):
    def step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
        return self.fire(0.5 * state[0] + x_t + x_t.to(torch.int32).to(x_t.dtype))


class Clips(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, w: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return w.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return grad.clamp(-0.1, 0.1)


class ClipsPerStep(_OneState):
    """The gradient of the parameter is not linear: clipping the sum is not the sum of the clipped."""

    def step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
        return self.fire(0.5 * state[0] + x_t * Clips.apply(self.w))


REASONS: dict[str, tuple[Any, str]] = {
    "sort": (lambda: Sorts(), "sort"),
    "branch": (lambda: Decides(), "cannot be traced"),
    "mean": (lambda: Averages(), "mean"),
    "softmax": (lambda: Inhibits(), "softmax"),
    "linear": (lambda: Multiplies(layer=nn.Linear(6, 6)), ""),
    "random": (lambda: Noisy(), "random"),
    "random_parameter": (lambda: NoisyParameter(), "random"),
    "counter": (lambda: Counts(calls=0), "changes attributes"),
    "memory": (lambda: Remembers(last=None), "changes attributes"),
    "buffer": (lambda: WritesBuffer(total=nn.Buffer(torch.zeros(()))), "writes in place"),
    "elsewhere": (lambda: Elsewhere(kept={"gain": torch.tensor(2.0)}), "cannot be traced"),
    "integers": (lambda: Integers(), "int32"),
    "clips": (lambda: ClipsPerStep(w=nn.Parameter(torch.tensor(0.8))), "clamp"),
}


@pytest.mark.parametrize("name", REASONS)
def test_the_loop_runs_instead_and_the_reason_is_told(name: str) -> None:
    make, reason = REASONS[name]
    x = torch.randn(5, 2, 6).requires_grad_()
    outcomes: list[tuple[Tensor, ...]] = []
    torch.manual_seed(1)
    first = make()
    torch.manual_seed(1)
    second = make()
    attributes = set(vars(first))
    assert explain(first, x).startswith("loop: ") and reason in explain(first, x)
    assert set(vars(first)) == attributes and getattr(first, "last", None) is None and getattr(first, "calls", 0) == 0
    for neuron, run in ((first, Neuron.scan), (second, Neuron.loop)):
        torch.manual_seed(2)
        spikes, last = run(neuron, x, neuron.initial_state(x[0]), True)
        assert last is not None
        grads = torch.autograd.grad(spikes.sum() + last[0].sum(), [x, *neuron.parameters()])
        outcomes.append((spikes, *last, *grads))
    for got, want in zip(*outcomes, strict=True):
        assert torch.equal(got, want)


def test_a_state_of_another_shape_runs_as_the_loop() -> None:
    x = torch.randn(4, 2, 3)
    assert explain(Wide(), x).startswith("loop: ")
    assert Wide()(x).shape == x.shape


def test_inference_is_fused_where_only_the_gradient_is_not() -> None:
    neuron = ClipsPerStep(w=nn.Parameter(torch.tensor(0.8)))
    assert explain(neuron, training=False) == "fused"
    x = torch.randn(5, 2, 6)
    with torch.no_grad():
        assert torch.equal(neuron(x), neuron.loop(x, neuron.initial_state(x[0]), False)[0])


class KeepsGradientRules(_OneState):
    """A detached use, a use without gradients and a function with its own gradient, all of the parameter alone."""

    def step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
        with torch.no_grad():
            unseen = self.w * 2
        return self.fire(0.5 * state[0] + x_t * self.w.detach() + unseen + Doubles.apply(self.w) * x_t)


class Doubles(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, w: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return w.sign() * 0.5

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return grad * 2


def test_gradient_rules_of_the_parameters_are_kept() -> None:
    neuron = KeepsGradientRules(w=nn.Parameter(torch.tensor([0.8, -0.3, 0.4])))
    x = torch.randn(5, 2, 3)
    assert explain(neuron, x) == "fused"
    got, want = (
        torch.autograd.grad(run(neuron, x, neuron.initial_state(x[0]), False)[0].sum(), neuron.w)[0]
        for run in (Neuron.scan, Neuron.loop)
    )
    assert want.abs().sum() > 0
    torch.testing.assert_close(got, want)


class WritesItsOwn(_OneState):
    def step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
        v = state[0] * 0.5
        v += x_t
        v.clamp_(min=-1)
        return self.fire(v)


def test_writing_into_ones_own_intermediate_is_fused() -> None:
    x = torch.randn(5, 2, 3)
    neuron = WritesItsOwn()
    assert explain(neuron, x) == "fused"
    assert torch.equal(neuron(x), neuron.loop(x, neuron.initial_state(x[0]), False)[0])


def test_a_tensor_attribute_is_read_anew_in_every_call() -> None:
    class Gain(_OneState):
        def step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
            return self.fire(0.5 * state[0] + x_t * self.gain)

    neuron, x = Gain(gain=torch.tensor(1.0)), torch.randn(5, 2, 3)
    assert explain(neuron, x) == "fused"
    for gain in (1.0, 3.0):
        neuron.gain = torch.tensor(gain)
        assert torch.equal(neuron(x), neuron.loop(x, neuron.initial_state(x[0]), False)[0])
        neuron.gain.mul_(2)
        assert torch.equal(neuron(x), neuron.loop(x, neuron.initial_state(x[0]), False)[0])


def test_the_reference_can_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    assert explain(OwnLIF()) == "fused"
    monkeypatch.setenv("RANVIER_BACKEND", "reference")
    assert "RANVIER_BACKEND" in explain(OwnLIF())


def test_errors_of_the_equations_reach_the_user() -> None:
    with pytest.raises(ShapeError, match="4 channels"):
        KLIF(channels=4)(torch.zeros(3, 2, 5, 6))


def test_checkpointing_and_pickling() -> None:
    neuron = OwnLIF(2.5)  # a constant no other test uses: the trace happens inside the checkpoint
    x = torch.randn(6, 2, 3).requires_grad_()
    spikes = torch.utils.checkpoint.checkpoint(neuron, x, use_reentrant=False)
    assert isinstance(spikes, Tensor)
    (got,) = torch.autograd.grad(spikes.sum(), x)
    (want,) = torch.autograd.grad(neuron.loop(x, neuron.initial_state(x[0]), False)[0].sum(), x)
    torch.testing.assert_close(got, want)
    twin = pickle.loads(pickle.dumps(neuron))
    assert torch.equal(twin(x), neuron(x))


def test_generated_files_are_found_again_and_never_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANVIER_CACHE", str(tmp_path))
    text = f"VALUE = {os.getpid()}\n"
    module = module_of(text)
    assert os.getpid() == module.VALUE and module_of(text) is module
    (file,) = tmp_path.glob("*.py")
    file.write_text("VALUE = 'not ours'\n")
    del sys.modules[module.__name__]
    assert os.getpid() == module_of(text).VALUE and file.read_text() == text
    assert not list(tmp_path.glob("*.tmp"))


def test_without_a_folder_to_write_kernels_still_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("RANVIER_CACHE", str(blocked))
    before = set(sys.modules)
    neuron, x = OwnLIF(2.71), torch.ones(3, 1, 2)  # a constant no other test uses: its kernel has to be written
    with torch.no_grad():
        assert torch.equal(neuron(x), neuron.loop(x, neuron.initial_state(x[0]), False)[0])
    assert explain(neuron, x) == "fused"
    assert blocked.read_text() == ""
    (kernel,) = (sys.modules[m] for m in set(sys.modules) - before if m.startswith("ranvier_kernel_"))
    assert kernel.__file__ is not None and "ranvier-kernels-" in kernel.__file__
