from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from tests.compat import old_opcheck
from tests.ops.leaky_cases import CASES, case_id
from torch import Tensor

from ranvier.errors import ConfigError, ShapeError
from ranvier.ops import LeakyDynamics, leaky_scan, leaky_scan_reference
from ranvier.ops.leaky_scan import numba_cpu, op
from ranvier.ops.leaky_scan.chunks import CHUNK, chunk_borders
from ranvier.surrogates import Atan, Rectangle, Sigmoid, Surrogate

Dtype = torch.dtype


def problem(shape: tuple[int, ...], dtype: Dtype, columns: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Input, initial membrane, decay and threshold; parameters for the layer, or for every channel (axis 2)."""
    x = (torch.randn(shape, dtype=dtype) * 1.5).requires_grad_()
    channels = (shape[2], *[1] * (len(shape) - 3)) if columns else ()
    decay = torch.rand(channels, dtype=dtype).mul_(0.8).add_(0.1).requires_grad_()
    v = torch.randn(shape[1:] if columns else (), dtype=dtype).requires_grad_()
    threshold = torch.rand(channels, dtype=dtype).add_(0.5)
    return x, v, decay, threshold


def gradients(outputs: tuple[Tensor, Tensor], inputs: list[Tensor], seed: int = 1) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    upstream = [torch.randn(o.shape, generator=generator, dtype=torch.float64).to(o.dtype) for o in outputs]
    return torch.autograd.grad(outputs, inputs, upstream)


def assert_parity(shape: tuple[int, ...], dtype: Dtype, columns: bool, dynamics: LeakyDynamics) -> None:
    x, v, decay, threshold = problem(shape, dtype, columns)
    expected = leaky_scan_reference(x, v, decay, threshold, dynamics)
    actual = leaky_scan(x, v, decay, threshold, dynamics)
    assert actual[1] is not None
    assert torch.equal(actual[0], expected[0]), "spike trains must be identical"
    assert torch.equal(actual[1], expected[1].expand_as(actual[1]))
    assert 0 < expected[0].count_nonzero() < expected[0].numel() or expected[0].numel() < 40
    tolerance = {"atol": 1e-12, "rtol": 1e-11} if dtype == torch.float64 else {"atol": 2e-5, "rtol": 2e-5}
    inputs = [x, v, decay]
    for name, got, want in zip(
        ("x", "v", "decay"), gradients((actual[0], actual[1]), inputs), gradients(expected, inputs), strict=True
    ):
        torch.testing.assert_close(got, want, **tolerance, msg=lambda m, name=name: f"gradient of {name}: {m}")


@pytest.mark.parametrize("columns", [False, True], ids=["layer", "channel"])
@pytest.mark.parametrize("dynamics", CASES, ids=case_id)
@pytest.mark.usefixtures("poisoned_empty")
def test_kernels_match_the_reference(dynamics: LeakyDynamics, columns: bool) -> None:
    assert_parity((7, 3, 5, 3), torch.float64, columns, dynamics)


@pytest.mark.parametrize("dynamics", CASES[:2] + CASES[6:7], ids=case_id)
@pytest.mark.parametrize(
    "shape",
    [(1, 2, 3), (CHUNK, 2, 3), (CHUNK + 1, 2, 3), (3 * CHUNK + 5, 2, 3), (2, 1, 1), (2, 3, 4, 181), (5, 1, 2, 700)],
    ids=str,
)
def test_kernels_match_over_chunk_and_block_borders(shape: tuple[int, ...], dynamics: LeakyDynamics) -> None:
    assert_parity(shape, torch.float32, False, dynamics)


def test_threads_share_the_work_without_a_seam() -> None:
    torch.set_num_threads(3)
    try:
        assert_parity((40, 4, 5, 517), torch.float32, False, CASES[0])
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize("decay_input", [True, False])
@pytest.mark.parametrize("soft", [True, False])
def test_gradcheck_below_threshold(soft: bool, decay_input: bool) -> None:
    """Where no neuron is near its threshold the scan is smooth, so finite differences must agree."""
    dynamics = LeakyDynamics(decay_input, soft, 0.05, False, Rectangle(1.0))
    x = torch.full((4, 1, 3), 0.35, dtype=torch.float64) * torch.tensor([1.0, 0.5, 0.25], dtype=torch.float64)
    x.requires_grad_()
    decay = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    v = torch.full((1, 3), 0.1, dtype=torch.float64, requires_grad=True)
    threshold = torch.tensor(9.0, dtype=torch.float64)

    def final_membrane(x: Tensor, v: Tensor, decay: Tensor) -> Tensor:
        out = leaky_scan(x, v, decay, threshold, dynamics)[1]
        assert out is not None
        return out

    assert torch.autograd.gradcheck(final_membrane, (x, v, decay), raise_exception=True)


def test_layouts_without_a_copy_and_with_one() -> None:
    dynamics = CASES[0]
    base = torch.randn(6 * 2, 4, 5, 3)
    last = base.to(memory_format=torch.channels_last).unflatten(0, (6, 2))
    spikes, _ = leaky_scan(last, last.new_zeros(()), torch.tensor(0.5), torch.tensor(1.0), dynamics, keep_state=False)
    assert spikes.stride() == last.stride(), "channels-last input is processed where it lies"
    want, _ = leaky_scan_reference(last.contiguous(), torch.zeros(()), torch.tensor(0.5), torch.tensor(1.0), dynamics)
    assert torch.equal(spikes, want)
    for x in (
        base.unflatten(0, (2, 6)).transpose(0, 1),
        torch.randn(6, 2, 8)[..., ::2],
        torch.randn(3, 2, 6).permute(2, 1, 0),
    ):
        x = x.clone(memory_format=torch.preserve_format).requires_grad_()
        got = leaky_scan(x, torch.zeros(()), torch.tensor(0.5), torch.tensor(1.0), dynamics)
        want = leaky_scan_reference(x, torch.zeros(()), torch.tensor(0.5), torch.tensor(1.0), dynamics)
        assert torch.equal(got[0], want[0])
        upstream = torch.randn(x.shape[::-1]).permute(*range(x.dim() - 1, -1, -1))  # strides unlike those of x
        (a,), (b,) = (torch.autograd.grad(o[0], x, upstream) for o in (got, want))
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_keeps_the_membrane_in_float32(dtype: Dtype) -> None:
    x = torch.randn(20, 3, 7).to(dtype)
    args = (torch.zeros(()), torch.tensor(0.3), torch.tensor(1.0), CASES[0])
    spikes, v = leaky_scan(x, *args)
    want, v_want = leaky_scan_reference(x.float(), *args)
    assert v is not None and v.dtype == torch.float32 and spikes.dtype == dtype
    assert torch.equal(spikes.float(), want) and torch.equal(v, v_want)
    x.requires_grad_()
    (grad,) = torch.autograd.grad(leaky_scan(x, *args)[0].sum(), x)
    (want,) = torch.autograd.grad(leaky_scan_reference(x, *args)[0].sum(), x)
    assert grad.dtype == dtype
    torch.testing.assert_close(grad, want, atol=2e-2, rtol=2e-2)


def test_the_reference_can_be_chosen_and_a_wrong_choice_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    original = numba_cpu.forward
    monkeypatch.setattr(numba_cpu, "forward", lambda *a: (calls.append(1), original(*a))[1])
    args = (torch.randn(3, 2), torch.zeros(()), torch.tensor(0.5), torch.tensor(1.0), CASES[0])
    leaky_scan(*args)
    monkeypatch.setenv("RANVIER_BACKEND", "reference")
    leaky_scan(*args)
    assert len(calls) == 1
    monkeypatch.setenv("RANVIER_BACKEND", "fast")
    with pytest.raises(ConfigError, match="auto, reference"):
        leaky_scan(*args)


def test_surrogates_without_a_kernel_and_trainable_thresholds_use_the_reference() -> None:
    class Odd(Surrogate):
        def derivative(self, x: Tensor) -> Tensor:
            return torch.full_like(x, 3.0)

    x = torch.randn(4, 5, requires_grad=True)
    args = (torch.zeros(()), torch.tensor(0.5), torch.tensor(1.0))
    spikes, _ = leaky_scan(x, *args, LeakyDynamics(surrogate=Odd()))
    want, _ = leaky_scan_reference(x, *args, LeakyDynamics(surrogate=Odd()))
    assert torch.equal(torch.autograd.grad(spikes.sum(), x)[0], torch.autograd.grad(want.sum(), x)[0])
    threshold = torch.tensor(1.0, requires_grad=True)
    leaky_scan(x, args[0], args[1], threshold, CASES[0])[0].sum().backward()
    assert threshold.grad is not None and threshold.grad != 0


@old_opcheck
def test_custom_op_contract() -> None:
    x, v, decay, threshold = problem((3, 2, 4), torch.float32, False)
    for keep_state in (True, False):
        args = (x, v, decay, threshold, keep_state, True, op.pack(CASES[0]))
        assert set(torch.library.opcheck(torch.ops.ranvier.leaky_scan.default, args).values()) == {"SUCCESS"}
    x, v, decay, threshold = problem((CHUNK + 3, 2, 4), torch.float32, True)
    wide = [t.detach().expand(2, 4).clone() for t in (decay, threshold)]
    args = (x, v, wide[0].requires_grad_(), wide[1], True, True, op.pack(CASES[1]))
    assert set(torch.library.opcheck(torch.ops.ranvier.leaky_scan.default, args).values()) == {"SUCCESS"}
    borders = torch.randn(chunk_borders(x.shape[0]), 8)
    args = (
        x.detach(), v.detach(), *(t.detach() for t in wide), borders, torch.randn_like(x), None,
        True, True, op.pack(CASES[1]),
    )  # fmt: skip
    assert set(
        torch.library.opcheck(
            torch.ops.ranvier.leaky_scan_backward.default, args, test_utils=("test_schema", "test_faketensor")
        ).values()
    ) == {"SUCCESS"}


def test_vmap_and_per_sample_gradients() -> None:
    x, v, _, threshold = problem((4, 3, 5), torch.float64, False)
    models = torch.stack([x.detach(), x.detach() * 0.7])
    decays = torch.tensor([0.3, 0.6], dtype=torch.float64)

    def run(x: Tensor, decay: Tensor) -> Tensor:
        return leaky_scan(x, v.detach(), decay, threshold, CASES[0], keep_state=False)[0]

    got = torch.vmap(run)(models, decays)
    assert torch.equal(got, torch.stack([run(m, d) for m, d in zip(models, decays, strict=True)]))
    got = torch.vmap(run, in_dims=(0, None))(models, decays[0])
    assert torch.equal(got, torch.stack([run(m, decays[0]) for m in models]))


def test_compiles_to_one_node_whatever_the_number_of_steps() -> None:
    graphs: list[int] = []

    def backend(graph: torch.fx.GraphModule, _: list[Tensor]) -> torch.fx.GraphModule:
        graphs.append(sum("leaky_scan" in str(n.target) for n in graph.graph.nodes))
        return graph

    def net(x: Tensor) -> Tensor:
        return leaky_scan(x * 2, x.new_zeros(()), torch.tensor(0.5), torch.tensor(1.0), CASES[0], keep_state=False)[0]

    torch._dynamo.reset()
    for steps in (3, 50):
        torch.compile(net, backend=backend, fullgraph=True, dynamic=False)(torch.randn(steps, 4))
    assert graphs == [1, 1]


@pytest.mark.parametrize("steps", [1, 32, 33, 320])
def test_what_backward_keeps_alive(steps: int) -> None:
    x = torch.randn(steps, 64, requires_grad=True)
    saved: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (saved.append(t), t)[1], lambda t: t):
        leaky_scan(x, x.new_zeros(()), torch.tensor(0.5), torch.tensor(1.0), CASES[0], keep_state=False)
    fresh = sum(t.numel() * 4 for t in saved if t.data_ptr() != x.data_ptr() and t.numel() > 1)
    assert fresh == (steps - 1) // 32 * 64 * 4, "the input, and one membrane in 32 steps"


def test_float32_exponential_of_the_sigmoid_kernel() -> None:
    z = torch.linspace(-30, 30, 20001)
    x = z.clone().requires_grad_()
    zero = torch.zeros(())
    dynamics = LeakyDynamics(decay_input=False, surrogate=Sigmoid(4.0))
    spikes, _ = leaky_scan(x.unsqueeze(0), zero, zero, torch.tensor(1e-30), dynamics, keep_state=False)
    (grad,) = torch.autograd.grad(spikes.sum(), x)
    exact = Sigmoid(4.0).derivative(z.double())
    error = ((grad.double() - exact).abs() / exact)[exact > 1e-35]
    assert error.max() < 5e-7


@pytest.mark.parametrize("shape", [(0, 3), ()])
def test_a_sequence_needs_a_step(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="at least one time step"):
        leaky_scan(torch.zeros(shape), torch.zeros(()), torch.tensor(0.5), torch.tensor(1.0), CASES[0])


def test_parameters_that_do_not_broadcast_are_named() -> None:
    with pytest.raises(ShapeError, match=r"decay of shape \(4,\).*\(2, 3\)"):
        leaky_scan(torch.zeros(5, 2, 3), torch.zeros(()), torch.full((4,), 0.5), torch.tensor(1.0), CASES[0])


def test_an_empty_batch_passes_through() -> None:
    x = torch.zeros(4, 0, 3, requires_grad=True)
    spikes, v = leaky_scan(x, torch.zeros(()), torch.tensor(0.5), torch.tensor(1.0), CASES[0])
    assert spikes.shape == x.shape and v is not None and v.shape == (0, 3)
    spikes.sum().backward()


def test_nan_input_reaches_the_membrane_and_never_a_neighbour() -> None:
    x = torch.randn(6, 2, 8)
    x[2, 0, 3] = math.nan
    _, v = leaky_scan(x, torch.zeros(()), torch.tensor(0.5), torch.tensor(1.0), LeakyDynamics(surrogate=Atan()))
    assert v is not None
    assert np.isnan(v[0, 3].item()) and v.isnan().sum() == 1
