"""Memory of echoes, masks, and the radial network."""

from __future__ import annotations

import math

import pytest
import torch

import ranvier
from ranvier.errors import ArgumentError, CheckpointError, ShapeError
from ranvier.loop import LidarBeams, LidarNav2D, PersistenceMap, SpikingRadialMAE, radial_mask
from ranvier.loop.envs.geometry import STEP
from ranvier.loop.predict.persistence import UNKNOWN_RANGE
from ranvier.loop.predict.radial_net import RadialNet
from ranvier.loop.predict.training import drive, evaluate, fit
from ranvier.loop.sensors.ring import RingEvents


def static_world() -> LidarNav2D:
    env = LidarNav2D(3, moving=0)
    env.reset(range(3))
    return env


def test_remembered_echoes_lie_where_a_new_look_finds_them() -> None:
    env, lidar, memory = static_world(), LidarBeams(noise=0.0), PersistenceMap()
    memory.reset(3)
    everything, reach = torch.ones(3, 30, dtype=torch.bool), torch.full((3,), 8.0).double()
    memory.predict(env.flat(env.position), 0)
    truth, _ = env.cast()
    memory.update(lidar.sense(truth, everything, reach), RingEvents.none(3), env.flat(env.position))
    env.position = env.position + torch.tensor([0.5, 0.3])
    belief = memory.predict(env.flat(env.position), 1)
    now, _ = env.cast()
    # the same surface, seen half a beam to either side, bounds what the re-projection may say
    near = torch.stack([now.roll(k, 1) for k in (-2, -1, 0, 1, 2)])
    inside = (belief.ranges >= near.amin(0) - 0.05) & (belief.ranges <= near.amax(0) + 0.05)
    shown = belief.known & (now < 7) & (belief.ranges < 7)
    assert shown.sum() > 100 and inside[shown].double().mean() > 0.97


def test_memory_forgets_and_looks_again() -> None:
    env, lidar, memory = static_world(), LidarBeams(noise=0.0), PersistenceMap(lifetime=0.5)
    memory.reset(3)
    position = env.flat(env.position)
    first = memory.predict(position, 0)
    assert not first.known.any() and (first.ranges == UNKNOWN_RANGE).all()
    truth, _ = env.cast()
    sectors = torch.zeros(3, 30, dtype=torch.bool)
    sectors[:, :5] = True
    reach = torch.full((3,), 8.0).double()
    belief, _ = memory.update(lidar.sense(truth, sectors, reach), RingEvents.none(3), position)
    assert torch.equal(belief.known.sum(1), torch.full((3,), 20))
    assert torch.allclose(belief.ranges[:, :20], truth.clamp(max=8.0)[:, :20])
    assert memory.predict(position, 5).known[:, :20].all()
    assert not memory.predict(position, 6).known.any()


def test_reference_and_kernel_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    for backend in ("reference", "auto"):
        monkeypatch.setenv("RANVIER_BACKEND", backend)
        env, lidar, memory = static_world(), LidarBeams(), PersistenceMap()
        memory.reset(3)
        generator = torch.Generator().manual_seed(0)
        images = []
        for tick in range(12):
            position = env.flat(env.position)
            images.append(memory.predict(position, tick))
            truth, _ = env.cast()
            mask = torch.rand(3, 30, generator=generator) < 0.3
            noise = torch.randn(3, 120, generator=generator).double()
            scan = lidar.sense(truth, mask, torch.full((3,), 5.0).double(), noise)
            images.append(memory.update(scan, RingEvents.none(3), position)[0])
            env.position = env.position + torch.tensor([0.07, 0.05])
        seen.append(images)
    for a, b in zip(*seen, strict=True):
        assert torch.equal(a.known, b.known)
        assert torch.allclose(a.ranges, b.ranges, atol=1e-12) and torch.equal(a.age_s, b.age_s)


def test_the_order_of_points_does_not_matter_and_state_round_trips() -> None:
    env, lidar, memory = static_world(), LidarBeams(noise=0.0), PersistenceMap()
    memory.reset(3)
    position = env.flat(env.position)
    memory.predict(position, 0)
    truth, _ = env.cast()
    memory.update(
        lidar.sense(truth, torch.ones(3, 30, dtype=torch.bool), torch.full((3,), 8.0).double()),
        RingEvents.none(3),
        position,
    )
    other = PersistenceMap()
    other.load_state_dict(memory.state_dict())
    order = torch.randperm(120)
    other._points[:, 0], other._stamp[:, 0] = other._points[:, 0, order], other._stamp[:, 0, order]
    ahead = position + torch.tensor([0.4, 0.4])
    assert torch.equal(memory.predict(ahead, 1).ranges, other.predict(ahead, 1).ranges)


def test_masks_are_radial_and_differ_by_sample() -> None:
    mask = radial_mask(120, 0.9, 4, batch=200, generator=torch.Generator().manual_seed(0))
    groups = mask.view(200, 30, 4)
    assert (groups.all(-1) == groups.any(-1)).all() and (groups.any(-1).sum(1) == 3).all()
    assert len({tuple(m.tolist()) for m in groups.any(-1)}) > 150
    assert radial_mask(120, 0.0).all() and not radial_mask(120, 1.0).any()
    with pytest.raises(ArgumentError, match="multiple"):
        radial_mask(121, 0.5)


def test_parameter_count() -> None:
    assert sum(p.numel() for p in SpikingRadialMAE().parameters()) == 52_836
    learned = RadialNet(neuron={"type": "plif", "surrogate": "atan"})
    assert sum(p.numel() for p in learned.parameters()) == 52_840  # and a leak a layer
    twin = sum(p.numel() for p in RadialNet("ann").parameters())
    assert abs(twin / 52_836 - 1) < 0.01


@pytest.mark.parametrize("kind", ["spiking", "ann", "hybrid"])
def test_the_network_is_circular_and_streams(kind: str) -> None:
    net = RadialNet(kind).double().eval()  # pyright: ignore[reportArgumentType]
    x = torch.randn(6, 2, 7, 120).double()
    whole = net(x)
    assert torch.allclose(net(x.roll(8, 3)), whole.roll(8, 3), atol=1e-12)
    with ranvier.carry(net):
        parts = torch.cat([net(x[:1]), net(x[1:4]), net(x[4:])])
    assert torch.equal(parts, whole) or torch.allclose(parts, whole, atol=1e-12)
    with pytest.raises(ShapeError, match="frames"):
        net(torch.zeros(2, 7, 120))


def test_additions_are_counted_by_the_synapses_that_spikes_reach() -> None:
    net = RadialNet().eval()
    _, activity = net.trace(torch.randn(1, 2, 7, 120) * 2)
    acs, macs, spikes = net.work([a[0] for a in activity])
    # count by brute force: how many output places each spike touches
    one = activity[0][0].double()
    touched = torch.nn.functional.conv1d(
        torch.nn.functional.pad(one.sum(1, keepdim=True), (2, 2), mode="circular"),
        torch.ones(1, 1, 5).double(), stride=2,
    ).sum((1, 2)) * 64  # fmt: skip
    two, three, four = (a[0].double().sum((1, 2)) for a in activity[1:])
    assert torch.allclose(acs, touched + two * 320 + three * (192 + 128) + four * 4)
    assert macs.tolist() == [32 * 35 * 120 + 32 * 120 * 2 + 64 * 60 * 2] * 2
    assert torch.allclose(spikes, one.sum((1, 2)) + two + three + four)


def test_training_improves_and_weights_round_trip(tmp_path: object) -> None:
    from pathlib import Path

    folder = Path(str(tmp_path))
    logs = drive(8, 30, windows=1)
    assert logs.frames.shape == (30, 8, 7, 120) and logs.truth.shape == (31, 8, 120)
    model = SpikingRadialMAE()
    history = fit(model.net, logs, epochs=6, batch=4, span=10, lr=5e-3)
    assert history[-1] < history[0]
    scores = evaluate(model.net, logs)
    assert 0.5 < scores["auroc"] <= 1 and scores["mae"] > 0
    model.save(folder / "w.safetensors")
    again = SpikingRadialMAE.load(folder / "w.safetensors")
    assert torch.equal(again.net(logs.frames), model.net(logs.frames))
    (folder / "bad.safetensors").write_bytes(b"no")
    with pytest.raises(CheckpointError):
        SpikingRadialMAE.load(folder / "bad.safetensors")


def test_angles() -> None:
    assert math.degrees(STEP) == pytest.approx(3.0)
