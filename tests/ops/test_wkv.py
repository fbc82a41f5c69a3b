"""WKV: its three forms and the kernels against the definition as a softmax, its invariances, splitting, precision."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest
import torch
from tests.compat import interpreted
from tests.warm import with_torch
from torch import Tensor

from ranvier.errors import ArgumentError, ShapeError
from ranvier.ops import wkv
from ranvier.ops.wkv import empty_state, wkv_reference, wkv_tree

FORMS = ["wkv", "reference", "tree"]


def form(name: str, w: Tensor, u: Tensor, k: Tensor, v: Tensor, state=None):
    if name == "wkv":
        return wkv(w, u, k, v, state)
    function = wkv_reference if name == "reference" else wkv_tree
    return function(w, u, k, v, empty_state(k[0]) if state is None else state)


def direct(w: Tensor, u: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The formula as a softmax over the tokens up to t, O(T²)."""
    steps = k.shape[0]
    t, i = torch.arange(steps)[:, None], torch.arange(steps)[None]
    weights = (t - 1 - i)[..., None, None] * w + k
    weights = torch.where((i == t)[..., None, None], u + k, weights)
    weights = weights.masked_fill((i > t)[..., None, None], -torch.inf)
    return (weights.softmax(1) * v).sum(1)


def problem(steps: int = 70, batch: int = 3, channels: int = 5, scale: float = 1.0, dtype=torch.float64):
    w = -torch.exp(torch.randn(channels, dtype=dtype))
    u = torch.randn(channels, dtype=dtype)
    k = torch.randn(steps, batch, channels, dtype=dtype) * scale
    v = torch.randn(steps, batch, channels, dtype=dtype)
    return [t.requires_grad_() for t in (w, u, k, v)]


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("steps", [1, 2, 32, 33, 70])
def test_every_form_is_the_softmax(name: str, steps: int, poisoned_empty: None) -> None:
    inputs = problem(steps)
    y, _ = form(name, *inputs)
    expected = direct(*inputs)
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-12)
    upstream = torch.randn_like(y)
    got = torch.autograd.grad((y * upstream).sum(), inputs, allow_unused=True)
    wanted = torch.autograd.grad((expected * upstream).sum(), inputs, allow_unused=True)
    for a, b, t in zip(got, wanted, inputs, strict=True):
        torch.testing.assert_close(torch.zeros_like(t) if a is None else a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["wkv", "tree"])
def test_gradients_through_the_state(name: str) -> None:
    w, u, k, v = problem(90)
    for cuts in ([90], [31, 59], [1, 2, 87], [45, 45]):
        state, parts = None, []
        for ks, vs in zip(k.split(cuts), v.split(cuts), strict=True):
            y, state = form(name, w, u, ks, vs, state)
            parts.append(y)
        y = torch.cat(parts)
        upstream = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
        loss = (y * upstream).sum() + state[0].mul(state[2].exp()).sum() + state[1].mul(state[2].exp()).square().sum()
        got = torch.autograd.grad(loss, (w, u, k, v))
        ref, last = form("reference", w, u, k, v)
        wanted = torch.autograd.grad(
            (ref * upstream).sum() + last[0].mul(last[2].exp()).sum() + last[1].mul(last[2].exp()).square().sum(),
            (w, u, k, v),
        )
        for a, b in zip(got, wanted, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["wkv", "reference"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_splitting_changes_no_bit(name: str, dtype: torch.dtype) -> None:
    with torch.no_grad():
        w, u, k, v = problem(50, channels=37, dtype=dtype)
        y, last = form(name, w, u, k, v)
        for n in (1, 17, 32, 49):
            first, state = form(name, w, u, k[:n], v[:n])
            second, end = form(name, w, u, k[n:], v[n:], state)
            assert torch.equal(torch.cat([first, second]), y)
            assert all(torch.equal(a, b) for a, b in zip(end, last, strict=True))


def test_invariances() -> None:
    with torch.no_grad():
        w, u, k, v = problem()
        y, _ = wkv(w, u, k, v)
        torch.testing.assert_close(wkv(w, u, k + 57, v)[0], y, rtol=0, atol=1e-12)
        torch.testing.assert_close(wkv(w, u, k, 3 * v - 2)[0], 3 * y - 2, rtol=0, atol=1e-12)
        torch.testing.assert_close(wkv(w, u, k, torch.full_like(v, 0.7))[0], torch.full_like(v, 0.7))
        assert torch.equal(y[0], v[0])
        assert bool(((y <= v.cummax(0).values + 1e-12) & (y >= v.cummin(0).values - 1e-12)).all())
        without, _ = wkv(w, torch.full_like(u, -1e6), k, v)
        shifted, _ = wkv(w, torch.full_like(u, -1e6), k, torch.cat([v[:-1], v[-1:] + 100]))
        assert torch.equal(without[1:], shifted[1:])
        assert torch.equal(wkv(w, torch.full_like(u, 1e6), k, v)[0], v)
        steep, _ = wkv(torch.full_like(w, -1e6), u, k, v)
        pair = torch.stack([k[:-1], u + k[1:]]).softmax(0)
        torch.testing.assert_close(steep[1:], pair[0] * v[:-1] + pair[1] * v[1:], rtol=0, atol=1e-12)


def test_single_precision() -> None:
    with torch.no_grad():
        exact = problem(2048, 2, 16)
        single = [t.float() for t in exact]
        y, _ = wkv(*exact)
        assert float((wkv(*single)[0] - y).abs().max()) < 1e-5
        assert float((wkv_tree(*single, empty_state(single[2][0]))[0] - y).abs().max()) < 1e-5
        extreme = [t.float() for t in problem(2048, 2, 16, scale=30.0)]
        assert bool(wkv(*extreme)[0].isfinite().all())
    extreme = [t.float().detach().requires_grad_() for t in problem(300, 2, 16, scale=30.0)]
    wkv(*extreme)[0].square().sum().backward()
    assert all(bool(t.grad.isfinite().all()) for t in extreme)


def test_gradients_in_single_precision() -> None:
    exact = problem(500, 2, 40)
    single = [t.detach().float().requires_grad_() for t in exact]
    upstream = torch.randn(500, 2, 40, dtype=torch.float64)
    wanted = torch.autograd.grad((wkv(*exact)[0] * upstream).sum(), exact)
    got = torch.autograd.grad((wkv(*single)[0] * upstream.float()).sum(), single)
    for a, b in zip(got, wanted, strict=True):
        assert float((a - b).abs().max() / b.abs().max()) < 1e-4


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_single(dtype: torch.dtype) -> None:
    w, u, k, v = (t.detach().to(dtype) for t in problem(40))
    k.requires_grad_()
    y, state = wkv(w, u, k, v)
    assert y.dtype == dtype and all(t.dtype == torch.float32 for t in state)
    torch.testing.assert_close(y, wkv(*(t.detach().float() for t in (w, u, k, v)))[0].to(dtype), rtol=0, atol=0)
    y.float().sum().backward()
    assert k.grad is not None and k.grad.dtype == dtype
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert wkv(w, u, k, v)[1][0].dtype == torch.float32


@pytest.mark.parametrize("shape", [(4, 6), (4, 2, 3, 6), (5, 0, 6)])
def test_other_shapes(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    w, u = -torch.rand(6), torch.randn(6)
    k, v = torch.randn(shape, requires_grad=True), torch.randn(shape)
    y, state = wkv(w, u, k, v)
    y.sum().backward()
    assert y.shape == shape and state[0].shape == shape[1:]
    monkeypatch.setenv("RANVIER_BACKEND", "reference")
    torch.testing.assert_close(y, wkv(w, u, k, v)[0])


def test_layout_of_the_input_does_not_matter() -> None:
    w, u, k, v = (t.detach() for t in problem())
    turned = [t.transpose(0, 1).contiguous().transpose(0, 1) for t in (k, v)]
    assert torch.equal(wkv(w, u, *turned)[0], wkv(w, u, k, v)[0])


def test_several_threads() -> None:
    w, u, k, v = (t.detach().float() for t in problem(64, 8, 300))
    y, _ = wkv(w, u, k, v)
    torch.set_num_threads(2)
    try:
        assert torch.equal(wkv(w, u, k, v)[0], y)
    finally:
        torch.set_num_threads(1)


def test_operator_registration() -> None:
    inputs = problem(40, 2, 3)
    state = empty_state(inputs[2][0])
    wkv(*inputs)  # registers
    checked = torch.library.opcheck(torch.ops.ranvier.wkv.default, (*inputs, *state, True), test_utils=(
        "test_schema", "test_faketensor", "test_autograd_registration", "test_aot_dispatch_static",
    ))  # fmt: skip
    assert set(checked.values()) == {"SUCCESS"}


@interpreted
@pytest.mark.parametrize("steps", [1, 33, 64, 70])
def test_triton(steps: int) -> None:
    pytest.importorskip("triton")
    if torch.cuda.is_available():
        pytest.skip("the interpreter runs without a GPU")
    from ranvier.ops.wkv import op, triton_cuda

    w, u, k, v = problem(steps, 2, 9)
    p, q, o = (t.detach() for t in wkv(w, u, k, v)[1])
    p.requires_grad_(), q.requires_grad_()
    y, p1, q1, o1, borders = op._forward(w, u, k, v, p, q, o, True, triton_cuda)
    expected, (ep, eq, eo) = wkv_reference(w, u, k, v, (p, q, o))
    for a, b in ((y, expected), (p1, ep), (q1, eq), (o1, eo)):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
    gy, gp, gq = torch.randn_like(y), torch.randn_like(p1), torch.randn_like(q1)
    got = op._backward(w, u, k, v, p, q, o, borders, gy, gp, gq, o1, triton_cuda)
    wanted = torch.autograd.grad([expected, ep, eq], (w, u, k, v, p, q), [gy, gp, gq])
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-11)


@pytest.mark.parametrize(
    ("w", "k", "v"), list(itertools.product([(3,), (4,)], [(0, 2, 3), (2, 3), (5, 2, 3)], [(5, 2, 3)]))
)
def test_bad_shapes(w: tuple[int, ...], k: tuple[int, ...], v: tuple[int, ...]) -> None:
    if w == (3,) and k == v:
        with pytest.raises(ShapeError, match="state must be three tensors"):
            wkv(torch.zeros(w), torch.zeros(w), torch.zeros(k), torch.zeros(v), (torch.zeros(3),) * 3)
        with pytest.raises(ArgumentError, match="one dtype"):
            wkv(torch.zeros(w), torch.zeros(w), torch.zeros(k), torch.zeros(v).half())
        return
    with pytest.raises(ShapeError, match=r"k (must be|of shape)"):
        wkv(torch.zeros(w), torch.zeros(w), torch.zeros(k), torch.zeros(v))


def test_kernels_compile_for_a_gpu_without_one() -> None:
    """The interpreter accepts more than the compiler does: in a process without it, compile to PTX."""
    pytest.importorskip("triton")
    script = Path(__file__).with_name("compile_wkv_for_gpu.py")
    env = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    done = with_torch().run(f"import runpy; runpy.run_path({str(script)!r}, run_name='__main__')", env=env)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == ["*bf16", "*fp32", "*fp64"]
