"""Images from denoising nets: labels, seeds, guidance, ratios of another net, stray state."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import ranvier
from ranvier.diffusion import (
    CascadePolynomialRegression,
    CompensationRatios,
    NetworkDenoiser,
    SearchOptions,
    denoiser_of,
    frechet_distance,
    generate,
    image_grid,
    load_denoiser,
    name_of,
    sample_ode,
    save_png,
    schedule_of,
    search_for,
    time_grid,
)
from ranvier.errors import ArgumentError, RanvierError, ShapeError
from ranvier.models import Denoiser, create_model

QUICK = {"options": SearchOptions(points=5, golden=1, ddim_steps=20), "noises": 4}


def _net(seed: int = 0, **arguments) -> Denoiser:
    torch.manual_seed(seed)
    net = create_model("spiking_unet_small", **{"img_size": 8, "channels": 8, "T": 2, **arguments})
    torch.nn.init.xavier_uniform_(net.head.conv.weight)
    with torch.no_grad():
        for _ in range(3):  # batch statistics that let neurons fire
            net(torch.randn(32, 1, 8, 8), torch.rand(32) * 999)
    return net.eval()  # pyright: ignore


@pytest.fixture(scope="module")
def net() -> Denoiser:
    return _net()


def test_images_and_classes(net: Denoiser) -> None:
    found = generate(net, 12, 3)
    assert found.images.shape == (12, 1, 8, 8)
    assert found.images.min() >= 0 and found.images.max() <= 1
    assert found.classes is not None
    assert found.classes.tolist() == [*range(10), 0, 1]
    assert found.evaluations == 3
    some = generate(net, 3, 3, classes=[4, 7])
    assert some.classes is not None
    assert some.classes.tolist() == [4, 7, 4]


def test_seed_and_batch_size(net: Denoiser) -> None:
    whole = generate(net, 5, 3, seed=3).images
    torch.testing.assert_close(whole, generate(net, 5, 3, seed=3, batch_size=2).images, rtol=1e-3, atol=1e-3)
    assert not torch.equal(whole, generate(net, 5, 3, seed=4).images)


def test_guidance_shares_one_pass(net: Denoiser) -> None:
    classes = torch.tensor([1, 2])
    x = torch.randn(2, 1, 8, 8)
    free = net(x, torch.full((2,), 100.0), torch.full((2,), 10))
    conditional = net(x, torch.full((2,), 100.0), classes)
    calls = []
    handle = net.register_forward_hook(lambda *a: calls.append(1))
    found = denoiser_of(net, classes, 3.0)(x, 101 / 1000)
    handle.remove()
    assert len(calls) == 1
    torch.testing.assert_close(found, 3 * conditional - 2 * free, rtol=1e-4, atol=1e-4)
    unguided = denoiser_of(net, classes)(x, 101 / 1000)
    torch.testing.assert_close(unguided, conditional, rtol=1e-5, atol=1e-5)


def test_state_never_enters_an_evaluation(net: Denoiser) -> None:
    """Even inside `carry`, every evaluation starts from the initial state; the mode of the net is put back."""
    denoiser, x = denoiser_of(net, torch.tensor([1, 2])), torch.randn(2, 1, 8, 8)
    alone = denoiser(x, 0.5)
    net.train()
    with ranvier.carry(net):
        for _ in range(3):
            assert torch.equal(denoiser(x, 0.5), alone)
    assert net.training
    net.eval()
    grid = time_grid(schedule_of(net), 3)
    with ranvier.carry(net):
        carried = sample_ode(denoiser, x, grid)
    assert torch.equal(carried, sample_ode(denoiser, x, grid))


def test_ratios_belong_to_a_net(net: Denoiser, tmp_path: Path) -> None:
    ratios = search_for(net, 3, **QUICK)
    assert ratios.model == name_of(net)
    assert ratios.found["T"] == 2
    ratios.save(tmp_path / "r.json")
    loaded = CompensationRatios.load(tmp_path / "r.json")
    torch.testing.assert_close(generate(net, 4, 3, ratios=loaded).images, generate(net, 4, 3, ratios=ratios).images)
    with pytest.raises(ArgumentError, match="model"):
        generate(_net(1), 4, 3, ratios=loaded)
    with pytest.raises(ArgumentError, match="NFE"):
        generate(net, 4, 4, ratios=loaded)
    with pytest.raises(ArgumentError, match="guidance"):
        generate(net, 4, 3, ratios=loaded, guidance=2.0)
    assert name_of(_net(0)) != name_of(_net(1))


def test_teacher_and_auto_corrector(net: Denoiser) -> None:
    teacher = _net(T=4)
    teacher.load_state_dict(net.state_dict())
    found = search_for(net, 3, guidance=2.0, corrector="auto", reference_net=teacher, **QUICK)
    assert found.found["reference"] == "given"
    assert generate(net, 4, 3, guidance=2.0, ratios=found).images.isfinite().all()


def test_search_by_gradient_through_surrogates(net: Denoiser) -> None:
    options = SearchOptions(iterations=3, ddim_steps=20)
    found = search_for(net, 3, noises=3, method="adamw", options=options)
    assert found.found["error"] <= found.found["error_of_ones"] * (1 + 1e-6)
    assert all(p.grad is None for p in net.parameters())


def test_regression_predicts_the_ratios(net: Denoiser) -> None:
    records = [(n, c, [1.0, 1.0, *[1.1] * (n - 2)]) for n in (3, 4, 5, 6) for c in (1.0, 2.0, 3.0)]
    fitted = CascadePolynomialRegression(2, 1, 1).fit(records)
    found = generate(net, 2, 5, guidance=1.5, ratios=fitted).images
    torch.testing.assert_close(found, generate(net, 2, 5, guidance=1.5, ratios=[1, 1, 1.1, 1.1, 1.1]).images)


def test_refuses(net: Denoiser) -> None:
    free = _net(num_classes=0)
    assert generate(free, 2, 2).classes is None
    for attempt, what in (
        (lambda: generate(net, 0), "count"), (lambda: generate(net, 2, 0), "function evaluations"),
        (lambda: generate(net, 2, classes=[10]), "classes"), (lambda: generate(free, 2, classes=[1]), "unconditional"),
        (lambda: generate(free, 2, guidance=2.0), "guidance"), (lambda: search_for(net, 3, noises=0), "noises"),
        (lambda: NetworkDenoiser(net, schedule_of(net), guidance=2.0), "null"),
        (lambda: denoiser_of(net, torch.tensor([1]))(torch.randn(2, 1, 8, 8), 0.5), "labels"),
    ):  # fmt: skip
        with pytest.raises(ArgumentError, match=what):
            attempt()


def test_a_run_of_another_kind(tmp_path: Path) -> None:
    with pytest.raises(RanvierError, match="run"):
        load_denoiser(tmp_path)


def test_frechet_distance_of_gaussians() -> None:
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(20000, 3, generator=generator, dtype=torch.float64)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a, a + 2) == pytest.approx(12, rel=1e-6)
    assert frechet_distance(a, 3 * a) == pytest.approx(3 * 4, rel=0.05)  # (3 − 1)² a dimension, and the means
    b = torch.randn(20000, 3, generator=generator, dtype=torch.float64) @ torch.diag(torch.tensor([1.0, 2, 0]).double())
    assert frechet_distance(a, b) == pytest.approx(0 + 1 + 1, rel=0.05)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-9)
    with pytest.raises(ShapeError):
        frechet_distance(a, a[:, :2])
    with pytest.raises(ArgumentError, match="finite"):
        frechet_distance(a, a * float("nan"))


def test_pictures(tmp_path: Path) -> None:
    images = torch.stack([torch.full((1, 2, 3), v) for v in (0.0, 0.5, 0.25)])
    page = image_grid(images, columns=2, gap=1)
    assert page.shape == (1, 5, 7)
    assert torch.equal(page[:, :2, :3], images[0])
    assert torch.equal(page[:, :2, 4:], images[1])
    assert torch.equal(page[:, 3:, :3], images[2])
    assert page[0, 2].eq(1).all()
    assert image_grid(images, scale=2).shape == (1, 9, 13)
    pillow = pytest.importorskip("PIL.Image")
    save_png(page, tmp_path / "deep" / "a.png")
    with pillow.open(tmp_path / "deep" / "a.png") as back:
        assert back.size == (7, 5)
        assert back.getpixel((4, 0)) == 128
    save_png(page.expand(3, -1, -1), tmp_path / "b.png")
    with pytest.raises(ShapeError):
        image_grid(torch.zeros(1, 2, 4, 4))
