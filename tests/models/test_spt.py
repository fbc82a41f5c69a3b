"""The Spiking Point Transformer: its queue of points, its attention, its original names."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from ranvier.errors import ArgumentError, ShapeError
from ranvier.models import create_model, load_official
from ranvier.models.spt import PointTransition, VectorAttention, queue_rows, subset_size
from ranvier.neurons import NeuronFactory
from ranvier.ops.points import farthest_point_sample

SMALL = {"num_points": 40, "width": 12, "channels": 8, "stages": 2, "neighbours": 4, "samples": 16, "num_classes": 5}


def clouds(*shape: int) -> Tensor:
    return torch.rand(*shape, dtype=torch.float64) * 2 - 1


def test_size_of_a_subset() -> None:
    assert subset_size(1024, 4, 512) == 512 and subset_size(1024, 1, 512) == 1024
    assert subset_size(1024, 2, 256) == 512 and subset_size(100, 4, 512) == 100
    with pytest.raises(ArgumentError, match="samples"):
        subset_size(10, 2, 0)


@pytest.mark.parametrize(
    ("points", "steps", "samples"), [(100, 4, 40), (64, 5, 16), (30, 3, 30), (50, 1, 20), (47, 4, 20)]
)
def test_the_queue_is_first_in_first_out(points: int, steps: int, samples: int) -> None:
    xyz = clouds(3, points, 3)
    rows = queue_rows(xyz, steps, samples)
    n = subset_size(points, steps, samples)
    renewed = (points - n) // (steps - 1) if steps > 1 else 0
    assert rows.shape == (steps, 3, n)
    assert torch.equal(rows[0], farthest_point_sample(xyz, n))
    for before, after in itertools.pairwise(rows):
        assert torch.equal(after[:, : n - renewed], before[:, renewed:])  # the oldest leave, the rest moves up
    for cloud in range(3):
        seen = {int(r) for r in rows[0, cloud]}
        for step in rows[1:, cloud]:
            fresh = [int(r) for r in step[n - renewed :]] if renewed else []
            assert len({*map(int, step)}) == n and not seen & {*fresh} and len({*fresh}) == renewed
            seen |= {*fresh}
        assert (
            len(seen)
            == n + renewed * (steps - 1)
            >= points - (steps - 1) * (renewed > 0) - (renewed == 0) * (points - n)
        )


def test_new_points_lie_far_apart_among_the_unseen() -> None:
    xyz = clouds(1, 60, 3)
    rows = queue_rows(xyz, 3, 20)[:, 0]
    unseen = [r for r in range(60) if r not in set(rows[0].tolist())]
    expected = farthest_point_sample(xyz[0, unseen], 20)
    assert rows[1].tolist() == [unseen[i] for i in expected.tolist()]


def test_the_released_queue_takes_rows_of_the_unseen_for_rows_of_the_cloud() -> None:
    xyz = clouds(2, 60, 3)
    rows = queue_rows(xyz, 3, 20, released=True)
    assert torch.equal(rows[0, :, 0], torch.zeros(2, dtype=torch.int64))
    kept = torch.ones(2, 60, dtype=torch.bool).scatter(1, rows[0], False)
    rest = xyz[kept].view(2, 40, 3)
    assert torch.equal(rows[1], farthest_point_sample(rest, 20, start=torch.zeros(2, dtype=torch.int64)))


def test_points_in_any_order_give_the_same_logits() -> None:
    net = create_model("spt_scanobjectnn", **{**SMALL, "channels": 16}, first=None).double().train()
    for norm in net.modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(norm.bias, 0.0, 1.0)
            norm.momentum = None
    x = clouds(3, 40, 3)
    net(x)
    net.eval()
    y = net(x)
    assert y.shape == (4, 3, 5) and y.std(1).max() > 0
    torch.testing.assert_close(net(x[:, torch.randperm(40)]), y, rtol=0, atol=1e-9)


def test_steps_see_different_points() -> None:
    net = create_model("spt_modelnet40", **SMALL).double().eval()
    x = clouds(2, 40, 6)
    steps = net.steps(x)
    assert steps.shape == (4, 2, 16, 6) and not torch.equal(steps[0], steps[1])
    pairs = {tuple(p.tolist()) for p in x[0]}
    assert all(tuple(p.tolist()) in pairs for p in steps[:, 0].flatten(0, 1))  # normals stay with their points
    assert torch.equal(net(x), net(steps))
    net = create_model("spt_modelnet40", **SMALL, sampling="repeat").double().eval()
    assert torch.equal(net.steps(x), x.expand(4, 2, 40, 6))


def test_mixture_of_neurons_needs_its_number_of_steps() -> None:
    net = create_model("spt_modelnet40", **SMALL).double()
    net(clouds(2, 40, 6)).sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    with pytest.raises(ShapeError, match="4 steps"):
        net(clouds(3, 2, 40, 6))


def attend(block: VectorAttention, xyz: Tensor, x: Tensor) -> Tensor:
    """The block cloud by cloud and point by point."""

    def seq(layer: nn.Module, y: Tensor) -> Tensor:
        return layer(y)

    steps, batch, _, n = x.shape
    s = block.widen(block.before(x))
    q, k, v = block.q(s), block.k(s), block.v(s)
    rows = torch.cdist(xyz.flatten(0, 1), xyz.flatten(0, 1)).sort(stable=True).indices[..., : block.neighbours]
    rows = rows.view(steps, batch, n, -1)
    offsets = torch.empty(steps, batch, 3, n, block.neighbours, dtype=x.dtype)
    keys = torch.empty(steps, batch, q.shape[2], n, block.neighbours, dtype=x.dtype)
    values = torch.empty_like(keys)
    for t in range(steps):
        for b in range(batch):
            for i in range(n):
                for j, other in enumerate(rows[t, b, i].tolist()):
                    offsets[t, b, :, i, j] = xyz[t, b, i] - xyz[t, b, other]
                    keys[t, b, :, i, j], values[t, b, :, i, j] = k[t, b, :, other], v[t, b, :, other]
    place = seq(block.place2_neuron, block.place2(block.place1_neuron(block.place1(block.place_neuron(offsets)))))
    score = block.weigh2(block.weigh1_neuron(block.weigh1(block.weigh_neuron(q[..., None] - keys + place))))
    weights = (score / q.shape[2] ** 0.5).softmax(-1)
    return x + block.narrow(block.narrow_neuron((weights * (values + place)).sum(-1)))


def test_vector_attention_is_its_equation() -> None:
    make = NeuronFactory({"type": "lif", "threshold": 0.2})
    block = VectorAttention(6, 8, 4, make, make).double().eval()
    for norm in block.modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(norm.bias, 0.0, 1.0)
    xyz, x = clouds(3, 2, 10, 3), 2 * clouds(3, 2, 6, 10)
    with torch.no_grad():
        y = block(xyz, x)
        torch.testing.assert_close(y, attend(block, xyz, x), rtol=0, atol=1e-10)
        assert (y - x).std() > 1e-3


def test_transition_keeps_a_quarter() -> None:
    down = PointTransition(6, 10, 5, 4, NeuronFactory("lif")).double().eval()
    xyz, x = clouds(3, 2, 20, 3), clouds(3, 2, 6, 20)
    centres, y = down(xyz, x)
    assert centres.shape == (3, 2, 5, 3) and y.shape == (3, 2, 10, 5)
    rows = farthest_point_sample(xyz.flatten(0, 1), 5)
    assert torch.equal(centres.flatten(0, 1), torch.stack([c[r] for c, r in zip(xyz.flatten(0, 1), rows, strict=True)]))


def released_shapes(T: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}

    def layer(name: str, norm: str | None, i: int, o: int, dims: int = 1) -> None:
        shapes.update({f"{name}.weight": (o, i, *[1] * dims), f"{name}.bias": (o,)})
        if norm is not None:
            shapes.update({f"{norm}.{p}": (o,) for p in ("weight", "bias", "running_mean", "running_var")})
            shapes[f"{norm}.num_batches_tracked"] = ()

    layer("backbone.fc1.0", "backbone.fc1.1", 6, 8)
    layer("backbone.fc1.3", "backbone.fc1.4", 8, 8)
    for at, dim in (("backbone.transformer1.0", 8), ("backbone.transformers.0", 16)):
        layer(f"{at}.fc1.0.gate", None, dim * T, 4)
        shapes[f"{at}.fc1.0.experts.2.w"] = ()
        layer(f"{at}.fc1.1", f"{at}.fc1.2", dim, 12)
        layer(f"{at}.fc2.1", f"{at}.fc2.2", 12, dim)
        for name, first in (("fc_delta", 3), ("fc_gamma", 12)):
            layer(f"{at}.{name}.1", f"{at}.{name}.2", first, 12, 2)
            layer(f"{at}.{name}.4", f"{at}.{name}.5", 12, 12, 2)
        for name in ("w_qs", "w_ks", "w_vs"):
            layer(f"{at}.{name}.0", f"{at}.{name}.1", 12, 12)
    down = "backbone.transition_downs.0.sa.mlp"
    layer(f"{down}_convs.0", f"{down}_bns.0", 11, 16, 2)
    layer(f"{down}_convs.1", f"{down}_bns.1", 16, 16, 2)
    layer("fc2.1", "fc2.2", 16, 8)
    layer("fc2.4", "fc2.5", 8, 2)
    layer("fc2.7", None, 2, 5)
    return shapes


def test_original_names() -> None:
    weights = {n: torch.rand(s) if s else torch.tensor(0.3) for n, s in released_shapes(4).items()}
    weights = {n: torch.tensor(3) if n.endswith("tracked") else w for n, w in weights.items()}
    net = create_model("spt_modelnet40", **SMALL)
    report = load_official(net, {"epoch": 3, "model_state_dict": weights})
    assert report.complete and net.released and "unseen" in report.notes[0]
    block = net.blocks[1].before
    gate = weights["backbone.transformers.0.fc1.0.gate.weight"]
    # Experts LIF, EIF, PLIF, IF there; IF, LIF, PLIF, EIF here. Channels of step t are 16 t .. 16 t + 15 there.
    assert torch.equal(block.weight[0, 1], gate[3, 16:32, 0]) and torch.equal(block.weight[3, 2], gate[1, 32:48, 0])
    assert block.experts[2].w.item() == pytest.approx(0.3)
    net.follow_release(False)
    assert not net.released and not net.transitions[0].released


def test_wrong_arguments() -> None:
    for wrong in ({"sampling": "random"}, {"width": 0}, {"in_channels": 2}, {"stages": 0}):
        with pytest.raises(ArgumentError):
            create_model("spt_modelnet40", **{**SMALL, **wrong})
