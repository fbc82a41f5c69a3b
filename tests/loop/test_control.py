"""Controllers: regulator, Koopman modes, gap following, linear plants."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.linalg import solve_discrete_are

from ranvier.errors import ArgumentError, ShapeError
from ranvier.loop import EventControl, GapFollow, LTIPlant, SpectralKoopman, lqr
from ranvier.loop.control.actor_critic import Tuning, fine_tune, squashed
from ranvier.loop.control.balance import balance, drives
from ranvier.loop.control.koopman import fit_koopman, spectral_start
from ranvier.loop.control.lqr import RiccatiError
from ranvier.loop.envs.plant import sensed_variance, sensing_error


@pytest.mark.parametrize("n", [1, 3, 8])
def test_riccati_is_that_of_scipy(n: int) -> None:
    A, B = torch.randn(n, n).double(), torch.randn(n, 2).double()
    Q, R = torch.eye(n).double(), 0.1 * torch.eye(2).double()
    K, P = lqr(A, B, Q, R)
    exact = solve_discrete_are(A.numpy(), B.numpy(), Q.numpy(), R.numpy())
    assert torch.allclose(P, torch.from_numpy(exact), rtol=1e-8, atol=1e-8)
    assert torch.linalg.eigvals(A - B @ K).abs().max() < 1
    unrolled, _ = lqr(A, B, Q, R, unroll=300)
    assert torch.allclose(unrolled, K, atol=1e-6)
    with pytest.raises(RiccatiError):
        lqr(2 * torch.eye(2).double(), torch.zeros(2, 1).double(), torch.eye(2).double(), torch.eye(1).double())
    with pytest.raises(ShapeError):
        lqr(A, B.T, Q, R)


def test_diagonal_complex_steps_are_the_real_block_matrix() -> None:
    model = SpectralKoopman(3, 2, d=5).double()
    z, u = torch.randn(4, 10).double(), torch.randn(4, 2).double()
    A, B = model.matrices()
    assert torch.allclose(model(z, u), z @ A.T + u @ B.T, atol=1e-12)
    assert (model.mu < 0).all() and torch.allclose(model.omega, 0.1 * math.pi * torch.arange(5).double())


def test_the_eigenvalues_of_an_oscillator_are_found() -> None:
    mu, omega, dt = -0.4, 3.0, 0.02
    turn = (
        math.exp(mu * dt)
        * torch.tensor(
            [[math.cos(omega * dt), -math.sin(omega * dt)], [math.sin(omega * dt), math.cos(omega * dt)]]
        ).double()
    )
    plant = LTIPlant(turn, torch.tensor([[0.0], [0.1]]).double(), torch.eye(2), torch.eye(1))
    x = plant.reset(torch.randn(32, 2).double())
    states, controls = [x], []
    for _ in range(40):
        controls.append(torch.randn(32, 1).double())
        states.append(plant.step(controls[-1])[0])
    model = SpectralKoopman(2, 1, d=4, dt=dt, hidden=0)
    spectral_start(model, torch.stack(states, 1), torch.stack(controls, 1))
    eigen = model.eigenvalues()[:2]
    expected = torch.exp(torch.tensor(complex(mu, omega)) * dt)
    assert min(abs(e - expected).item() for e in eigen) < 1e-3
    before = model.eigenvalues().detach().clone()
    history = fit_koopman(model, torch.stack(states, 1).float(), torch.stack(controls, 1).float(), steps=100)
    assert len(history) == 1 and (model.eigenvalues().detach() - before)[:2].abs().max() < 5e-3


def test_gap_follow_kernel_and_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    ranges = torch.rand(20, 120).double() * 7 + 0.3
    args = (ranges, torch.randn(20).double(), torch.rand(20).double() * 20, torch.randn(20).double())
    found = []
    for backend in ("reference", "auto"):
        monkeypatch.setenv("RANVIER_BACKEND", backend)
        found.append(GapFollow().act(*args))
    assert torch.allclose(found[0].velocity, found[1].velocity, atol=1e-9)
    assert torch.allclose(found[0].clearance, found[1].clearance, atol=1e-9)
    free = GapFollow().act(
        torch.full((1, 120), 8.0).double(), torch.tensor([0.6]), torch.tensor([9.0]), torch.tensor([0.6])
    )
    assert free.velocity.norm().item() == pytest.approx(1.0) and abs(free.heading.item() - 0.6) < math.radians(1.6)
    walled = torch.full((1, 120), 0.3).double()
    assert GapFollow().act(walled, torch.zeros(1), torch.ones(1), torch.zeros(1)).velocity.norm().item() == 0


def test_intermittent_sensing_in_closed_form() -> None:
    a, q, sigma = 1.2, 0.6, 0.5
    generator = torch.Generator().manual_seed(0)
    error, total = torch.zeros(2000).double(), 0.0
    for step in range(600):
        error = a * error + sigma * torch.randn(2000, generator=generator).double()
        total += float(error.square().mean()) if step >= 100 else 0.0
        error = torch.where(torch.rand(2000, generator=generator) < q, 0.0, error)
    assert total / 500 == pytest.approx(sensed_variance(a, sigma, q), rel=0.05)
    assert math.isinf(sensed_variance(a, sigma, 1 - 1 / a**2))


def test_events_are_the_best_moment_to_look() -> None:
    event, rate = sensing_error("event", 6.0)
    periodic, _ = sensing_error("periodic", rate)
    random, _ = sensing_error("random", rate)
    assert periodic / event == pytest.approx(3.06, rel=0.08) and random / event == pytest.approx(6.1, rel=0.12)


@pytest.mark.parametrize("task", ["pendulum", "cartpole"])
def test_physics_is_that_of_gymnasium(task: str) -> None:
    import gymnasium

    env = EventControl(task, 1, camera=None)  # pyright: ignore[reportArgumentType]
    if task == "pendulum":
        other = gymnasium.make("Pendulum-v1").unwrapped
        other.reset(seed=0)
        other.dt, start, force = 1e-3, [0.3, -0.5], 1.3  # pyright: ignore[reportAttributeAccessIssue]
        other.state = torch.tensor(start).double().numpy()  # pyright: ignore[reportAttributeAccessIssue]
        env.reset(torch.tensor([start]))
        for _ in range(20):
            other.step(torch.tensor([force]).numpy())
        # Gymnasium's pendulum steps the angle with the new speed, as ours does
        expected = torch.tensor(other.state)  # pyright: ignore[reportAttributeAccessIssue]
    else:
        other = gymnasium.make("CartPole-v1").unwrapped
        other.reset(seed=0)
        other.tau, start, force = 1e-3, [0.1, 0.2, 0.05, -0.1], 10.0  # pyright: ignore[reportAttributeAccessIssue]
        other.state = tuple(start)  # pyright: ignore[reportAttributeAccessIssue]
        env.reset(torch.tensor([start]))
        for _ in range(20):
            other.step(1)
        expected = torch.tensor([float(v) for v in other.state])  # pyright: ignore[reportAttributeAccessIssue]
    found, window = env.step(torch.tensor([force]))
    assert window is None and torch.allclose(found[0], expected.double(), atol=1e-6)


def test_a_growing_mode_is_needed_to_stand_upright() -> None:
    env = EventControl("pendulum", 20, camera=None)
    states, controls = drives(env, 64)
    start = torch.stack([torch.linspace(-0.3, 0.3, 20), torch.zeros(20)], 1)
    upright = {}
    for stable in (True, False):
        model = SpectralKoopman(2, 1, d=4, stable=stable)
        fit_koopman(model, states, controls, steps=30)
        upright[stable] = balance(env, model, start, 150, pulse=1.0)
    assert upright[False].upright.all() and not upright[True].upright.all()
    sparse = balance(env, model, start, 150, pulse=1.0, delta=0.02)
    assert sparse.upright.all() and sparse.processed.mean() < 1 / 3


def test_mujoco_falls_and_makes_events() -> None:
    env = EventControl("inverted-pendulum", 1, seed=0)
    state = env.reset(torch.tensor([[0.0, 0.0, 0.1, 0.0]]))
    for _ in range(5):
        state, window = env.step(torch.zeros(1))
    assert window is not None and window.counts.shape == (20, 1, 2, 64, 64) and window.total.item() > 0
    assert state[0, 2] > 0.1


def test_a_spiking_controller_learns_from_the_teacher_and_its_work_is_booked() -> None:
    from ranvier.loop import LidarNav2D, PersistenceMap, Priority, SenseActLoop, SpikingController
    from ranvier.loop.control import imitate
    from ranvier.loop.predict.training import drive

    torch.manual_seed(0)
    images = 1 / drive(8, 60, windows=1).truth.flatten(0, 1)
    controller = SpikingController()
    assert imitate(controller, images, steps=40, batch=64, lr=1e-2) > 0.25
    loop = SenseActLoop(
        LidarNav2D(2, max_ticks=40), None, PersistenceMap(), Priority(6, True), controller, strict=True
    )  # fmt: skip
    report = loop.run(2)
    assert report.energy()["network"] > 0 and report.episodes[0].path_length > 1.0


def test_the_log_probability_of_a_squashed_control() -> None:
    mean, log_std = torch.tensor([[0.3]]).double(), torch.tensor([-0.7]).double()
    grid = torch.linspace(-9, 9, 200_001).double()[:, None]
    a, log_probability = squashed(mean, log_std, grid)
    exact = torch.distributions.TransformedDistribution(
        torch.distributions.Normal(mean[0], log_std.exp()), [torch.distributions.TanhTransform()]
    )
    inner = a[:, 0].abs() < 0.999
    assert torch.allclose(log_probability[inner], exact.log_prob(a[inner])[:, 0], atol=1e-6)
    assert torch.trapezoid(log_probability.exp(), a[:, 0]).item() == pytest.approx(1.0, abs=1e-4)


def test_fine_tuning_is_the_same_for_the_same_seed() -> None:
    found: list[torch.Tensor] = []
    model = SpectralKoopman(2, 1, d=3, hidden=8)
    for _ in range(2):
        torch.manual_seed(0)
        model = SpectralKoopman(2, 1, d=3, hidden=8)
        before = torch.cat([p.detach().flatten() for p in model.parameters()])
        history = fine_tune(
            model, EventControl("pendulum", 4, camera=None), 100, tuning=Tuning(batch=16, warm=1), seed=3
        )
        assert len(history) == 1 and history[0] < 0 and bool((model.mu < 0).all())
        found.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
        assert bool(torch.isfinite(found[-1]).all()) and not torch.equal(found[-1], before)
    assert torch.equal(*found)
    with pytest.raises(ArgumentError, match="camera=None"):
        fine_tune(model, EventControl("pendulum", 2), 1)
    with pytest.raises(ArgumentError, match="steps"):
        fine_tune(model, EventControl("pendulum", 2, camera=None), 0)
    with pytest.raises(ArgumentError, match="discount"):
        Tuning(discount=1.0)
