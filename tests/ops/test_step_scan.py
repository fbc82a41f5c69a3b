"""Parity of the generated kernels with the loop over `step`, and their behaviour as one operation of torch."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from tests.compat import old_compiler
from tests.ops.step_scan_neurons import USER_NEURONS, OwnLIF, Resonator
from torch import Tensor

import ranvier
from ranvier.neurons import LIF, NEURONS, Neuron, build
from ranvier.ops.step_scan import explain, op, plan_key
from ranvier.ops.step_scan.plan import make_plan
from ranvier.state import State, carry

Dtype = torch.dtype
SHAPE = (7, 2, 3, 5)
# torch's tracer makes an instance of an autograd function, which torch itself then warns about.
TRACER_WARNING = pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
ZOO = ("alif", "clif", "cuba_lif", "eif", "glif", "hodgkin_huxley", "ie_lif", "i_lif", "izhikevich", "klif", "lif",
       "ni_lif", "plif", "qcfs_if", "qffs_if")  # fmt: skip


def problem(neuron: Neuron, shape: tuple[int, ...], dtype: Dtype) -> tuple[Tensor, State]:
    x = (torch.randn(shape, dtype=dtype) * 1.5).requires_grad_()
    rest = neuron.initial_state(x[0].detach())
    return x, tuple((s + 0.1 * torch.randn_like(s)).detach().requires_grad_() for s in rest)


def outcome(neuron: Neuron, x: Tensor, state: State, fused: bool) -> tuple[list[Tensor], list[Tensor | None]]:
    """Spikes and final state, and the gradients of input, initial state and parameters."""
    run = Neuron.scan if fused else Neuron.loop
    spikes, last = run(neuron, x, state, True)
    assert last is not None
    out = [spikes, *last]
    generator = torch.Generator().manual_seed(1)
    upstream = [torch.randn(o.shape, generator=generator, dtype=torch.float64).to(o.dtype) for o in out]
    pairs = [(o, g) for o, g in zip(out, upstream, strict=True) if o.requires_grad]
    leaves = [x, *state, *(p for p in neuron.parameters() if p.requires_grad)]
    grads = torch.autograd.grad([o for o, _ in pairs], leaves, [g for _, g in pairs], allow_unused=True)
    return [o.detach() for o in out], list(grads)


def assert_parity(neuron: Neuron, shape: tuple[int, ...], dtype: Dtype) -> None:
    neuron = copy.deepcopy(neuron).to(dtype)
    x, state = problem(neuron, shape, dtype)
    assert explain(neuron, x) == "fused"
    (out, grads), (want, want_grads) = (outcome(neuron, x, state, fused) for fused in (True, False))
    atol, rtol = (1e-11, 1e-11) if dtype == torch.float64 else (2e-5, 2e-5)
    assert torch.equal(out[0], want[0])
    for got, wanted in zip(out[1:], want[1:], strict=True):
        torch.testing.assert_close(got, wanted, atol=atol, rtol=rtol)
    for got, wanted in zip(grads, want_grads, strict=True):
        if wanted is None:
            assert got is None or not got.any()
        else:
            assert got is not None
            scale = 1 + wanted.abs().max().item()  # a sum over many terms of both signs is as exact as its terms
            torch.testing.assert_close(got, wanted, atol=atol * scale, rtol=rtol)


@pytest.mark.parametrize("name", USER_NEURONS)
@pytest.mark.usefixtures("poisoned_empty")
def test_a_users_neuron_equals_its_loop(name: str) -> None:
    assert_parity(USER_NEURONS[name], SHAPE, torch.float64)


@pytest.mark.parametrize("name", ["hard", "learned_per_channel", "resonator", "everything"])
def test_float32(name: str) -> None:
    assert_parity(USER_NEURONS[name], SHAPE, torch.float32)


@pytest.mark.parametrize("name", ZOO)
def test_a_neuron_of_the_zoo_equals_its_loop(name: str) -> None:
    if name not in NEURONS:
        pytest.skip(f"there is no neuron {name!r}")
    assert_parity(build(name), SHAPE, torch.float64)


@pytest.mark.parametrize("steps", [1, 2, 31, 32, 33, 64, 70])
def test_chunk_borders(steps: int) -> None:
    assert_parity(USER_NEURONS["resonator"], (steps, 2, 3, 5), torch.float64)
    assert_parity(USER_NEURONS["hard"], (steps, 2, 3, 5), torch.float32)


@pytest.mark.parametrize("shape", [(3, 1, 3, 1), (2, 1, 3), (3, 2, 3, 700), (2, 5, 3, 1, 2)], ids=str)
def test_shapes_and_block_borders(shape: tuple[int, ...]) -> None:
    assert_parity(USER_NEURONS["learned_per_channel"], shape, torch.float64)
    assert_parity(USER_NEURONS["resonator"], shape, torch.float64)


def test_threads_share_the_work_without_a_seam() -> None:
    torch.set_num_threads(3)
    try:
        assert_parity(USER_NEURONS["resonator"], (40, 4, 3, 517), torch.float32)
    finally:
        torch.set_num_threads(1)


def test_the_users_lif_is_the_built_in_lif() -> None:
    x = (torch.randn(40, 3, 50) * 2).requires_grad_()
    spikes, want = OwnLIF(surrogate="atan")(x), LIF(surrogate="atan")(x)
    assert torch.equal(spikes, want)
    upstream = torch.randn_like(x)
    got, wanted = (torch.autograd.grad(s, x, upstream)[0] for s in (spikes, want))
    torch.testing.assert_close(got, wanted, atol=1e-6, rtol=1e-5)


def test_a_changed_attribute_is_another_kernel() -> None:
    neuron = OwnLIF()
    x = torch.randn(6, 2, 4).requires_grad_()
    for change in ({"tau": 5.0}, {"soft": True}, {"threshold": 0.4}, {"surrogate": ranvier.surrogates.Atan(3.0)}):
        for name, value in change.items():
            setattr(neuron, name, value)
        state = (torch.zeros(2, 4, requires_grad=True),)
        (out, grads), (want, want_grads) = (outcome(neuron, x, state, fused) for fused in (True, False))
        assert torch.equal(out[0], want[0])
        for got, wanted in zip(grads, want_grads, strict=True):
            if wanted is not None and got is not None:
                torch.testing.assert_close(got, wanted)


def test_neurons_that_are_alike_share_a_kernel_and_a_copy_is_its_own() -> None:
    form = ((2, 4), 1, torch.float32, torch.device("cpu"), True)
    one, other = OwnLIF(3.0), OwnLIF(3.0)
    assert plan_key(one, *form) == plan_key(other, *form) != plan_key(OwnLIF(4.0), *form)
    twin = copy.deepcopy(one)
    twin.tau = 9.0
    x = torch.randn(8, 2, 4)
    assert torch.equal(twin(x), twin.loop(x, twin.initial_state(x[0]), False)[0])
    assert torch.equal(one(x), other(x)) and not torch.equal(one(x), twin(x))
    assert set(vars(one)) == set(vars(OwnLIF(3.0))), "nothing is left behind on the neuron"


def test_streaming_in_chunks_is_one_pass() -> None:
    neuron, x = Resonator(3), torch.randn(50, 2, 3, 4)
    whole = neuron(x)
    with carry(neuron):
        parts = [neuron(chunk) for chunk in x.split([1, 33, 16])]
    assert torch.equal(torch.cat(parts), whole)


def test_gradients_flow_through_carried_state() -> None:
    neuron = OwnLIF(3.0)
    x = torch.randn(10, 2, 4).requires_grad_()
    upstream = torch.randn_like(x)
    with carry(neuron):
        parts = torch.cat([neuron(chunk) for chunk in x.split(4)])
    got, want = (torch.autograd.grad(s, x, upstream)[0] for s in (parts, neuron(x)))
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype: Dtype) -> None:
    neuron, x = OwnLIF(3.0), torch.randn(20, 3, 7).to(dtype)
    with carry(neuron) as memory:
        spikes = neuron(x)
    (state,) = memory.states.values()
    want, last = neuron.loop(x.float(), neuron.initial_state(x[0].float()), True)
    assert last is not None and spikes.dtype == dtype and state[0].dtype == torch.float32
    assert torch.equal(spikes.float(), want) and torch.equal(state[0], last[0])
    x.requires_grad_()
    (grad,) = torch.autograd.grad(neuron(x).sum(), x)
    (want,) = torch.autograd.grad(neuron.loop(x, neuron.initial_state(x[0].float()), False)[0].sum(), x)
    assert grad.dtype == dtype
    torch.testing.assert_close(grad, want, atol=2e-2, rtol=2e-2)


def test_channels_last_input_is_processed_where_it_lies() -> None:
    neuron = Resonator(3).double()
    x = torch.randn(6 * 2, 3, 4, 5, dtype=torch.float64).to(memory_format=torch.channels_last).unflatten(0, (6, 2))
    x = x.detach().requires_grad_()
    spikes = neuron(x)
    assert spikes.stride() == x.stride()
    upstream = torch.randn_like(x)
    got = torch.autograd.grad(spikes, [x, neuron.frequency], upstream)
    dense = x.detach().contiguous().requires_grad_()
    want = torch.autograd.grad(neuron(dense), [dense, neuron.frequency], upstream)
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b)
    sparse = torch.randn(6, 2, 3, 8, dtype=torch.float64)[..., ::2]
    assert torch.equal(neuron(sparse), neuron(sparse.contiguous()))


def test_custom_op_contract() -> None:
    neuron = Resonator(3)
    x, state = problem(neuron, (35, 2, 3, 4), torch.float32)
    found = plan_key(neuron, tuple(x.shape[1:]), 2, x.dtype, x.device, True)
    assert found is not None
    tensors = [neuron.get_parameter(name) for name in found[1]]
    for keep_state in (True, False):
        arguments = (x, list(state), tensors, found[0], keep_state, True)
        torch.library.opcheck(torch.ops.ranvier.step_scan.default, arguments)
    assert op.graded(op.plan_of(found[0])) == [True, True]


@TRACER_WARNING
@old_compiler
def test_compiles_to_one_node_and_follows_a_changed_attribute() -> None:
    counts: list[int] = []

    def backend(graph: torch.fx.GraphModule, _: list[Tensor]) -> torch.fx.GraphModule:
        counts.append(sum("step_scan" in str(n.target) for n in graph.graph.nodes))
        return graph

    torch._dynamo.reset()
    neuron = OwnLIF()
    compiled = torch.compile(neuron, backend=backend, fullgraph=True, dynamic=False)
    for steps in (3, 50):
        x = torch.randn(steps, 2, 4) * 2
        assert torch.equal(compiled(x), neuron(x))
    neuron.tau = 6.0
    assert torch.equal(compiled(x), neuron(x))
    assert counts == [1, 1, 1]


@TRACER_WARNING
def test_compiled_gradients() -> None:
    torch._dynamo.reset()
    neuron = Resonator(3)
    x = torch.randn(6, 2, 3, 4).requires_grad_()
    compiled = torch.compile(neuron, backend="aot_eager", fullgraph=True, dynamic=False)
    got, want = (torch.autograd.grad(f(x).sum(), [x, *neuron.parameters()]) for f in (compiled, neuron))
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b)


def test_transforms_of_torch_func_go_through_the_loop() -> None:
    neuron, x = OwnLIF(3.0), torch.randn(2, 5, 3, 4)
    assert torch.equal(torch.vmap(neuron)(x), torch.stack([neuron(one) for one in x]))
    torch.func.grad(lambda x: neuron(x).sum())(x[0])


@pytest.mark.parametrize("steps", [1, 32, 33, 320])
def test_what_backward_keeps_alive(steps: int) -> None:
    x = torch.randn(steps, 64, 1).requires_grad_()
    saved: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (saved.append(t), t)[1], lambda t: t):
        OwnLIF()(x)
    fresh = sum(t.numel() * 4 for t in saved if t.data_ptr() != x.data_ptr() and t.numel() > 1)
    assert fresh == ((steps - 1) // 32 + 1) * 64 * 4, "the input, the initial state, and one membrane in 32 steps"


def test_nan_stays_in_its_neuron_and_an_empty_batch_passes() -> None:
    neuron, x = OwnLIF(), torch.randn(6, 2, 8)
    x[2, 0, 3] = math.nan
    _, last = neuron.scan(x, None, True)
    assert last is not None and last[0].isnan().sum() == 1 and last[0][0, 3].isnan()
    empty = torch.zeros(4, 0, 3, requires_grad=True)
    neuron(empty).sum().backward()
    assert empty.grad is not None and empty.grad.shape == empty.shape


@TRACER_WARNING
@pytest.mark.parametrize("name", sorted(USER_NEURONS))
def test_inference_shares_the_forward_kernel_of_training(name: str) -> None:
    neuron = copy.deepcopy(USER_NEURONS[name]).double()
    states = len(neuron.initial_state(torch.zeros(SHAPE[1:])))
    training, inference = (
        make_plan(neuron, SHAPE[1:], states, torch.float64, torch.device("cpu"), graded) for graded in (True, False)
    )
    assert training.source == inference.source
    assert training.backward_source and not inference.backward_source
