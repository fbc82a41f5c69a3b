from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import ranvier
from ranvier.errors import ArgumentError, ConfigError
from ranvier.train import (
    Interrupted,
    NonFiniteError,
    Recipe,
    RunError,
    assemble,
    evaluate,
    fit,
    load_run,
    load_splits,
    objective,
    read_journal,
    session,
)

MakeRecipe = Callable[..., Recipe]


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "model.safetensors")


def same_bits(a: Path, b: Path) -> None:
    assert (a / "metrics.jsonl").read_bytes() == (b / "metrics.jsonl").read_bytes()
    first, second = weights(a), weights(b)
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


def test_a_run_learns_and_leaves_its_records(small: MakeRecipe, tmp_path: Path) -> None:
    recipe = small(train={"epochs": 15}, log={"every": 4, "tensorboard": True})
    result = fit(recipe, tmp_path / "r", progress=False)
    assert result.test.n == 60
    assert result.test.accuracy > 0.7
    assert result.test.accuracy_by_step[-1] == result.test.accuracy
    assert (result.epochs, result.steps, result.selection) == (15, 15 * 5, "validation")
    lines = read_journal(tmp_path / "r" / "metrics.jsonl")
    epochs = [line for line in lines if "epoch" in line]
    assert [line["epoch"] for line in epochs] == list(range(1, 16))
    assert [line["step"] for line in lines if "epoch" not in line] == list(range(1, 76, 4))
    best = max(epochs, key=lambda line: (line["val_accuracy"], -line["val_loss"]))
    assert result.selected_epoch == best["epoch"]
    assert result.validation == {"accuracy": best["val_accuracy"], "loss": best["val_loss"]}
    assert all(0 < line["firing_rate"] < 1 for line in epochs)
    assert json.loads((tmp_path / "r" / "environment.json").read_text())["threads"] == 1
    assert ranvier.train.load_recipe(tmp_path / "r" / "recipe.yaml") == recipe
    assert list((tmp_path / "r" / "tensorboard").iterdir())
    kept = {path.name for path in (tmp_path / "r" / "checkpoints").iterdir()}
    assert kept == {"latest.json", f"step-{75:09d}", f"step-{best['step']:09d}"}

    again = evaluate(tmp_path / "r")
    assert (again.accuracy, again.accuracy_by_step) == (result.test.accuracy, result.test.accuracy_by_step)
    chosen = evaluate(tmp_path / "r", split="validation")
    assert (chosen.accuracy, chosen.loss) == (best["val_accuracy"], best["val_loss"])
    net, loaded = load_run(tmp_path / "r")
    assert loaded == recipe
    assert not net.training
    direct = evaluate(net, load_splits(recipe).test)
    assert direct.accuracy == result.test.accuracy


def test_same_seed_same_bits_other_seed_other_bits(small: MakeRecipe, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        torch.rand(3)  # whatever was drawn before
        fit(small(seed=seed), tmp_path / name, progress=False)
    same_bits(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "a" / "metrics.jsonl").read_bytes() != (tmp_path / "c" / "metrics.jsonl").read_bytes()


def test_the_test_part_is_touched_once_at_the_end_with_the_selected_weights(
    small: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, dict[str, torch.Tensor]]] = []
    reads: list[int] = []
    real_measure, real_load = objective.measure, assemble.load_splits

    class Watched(ranvier.data.Samples):
        def __init__(self, inner: ranvier.data.Samples) -> None:
            self.inner, self.labels, self.time_first = inner, inner.labels, inner.time_first

        def batch(self, indices: Any) -> Any:
            reads.append(len(indices))
            return self.inner.batch(indices)

    def load(recipe: Recipe) -> Any:
        splits = real_load(recipe)
        object.__setattr__(splits.bundle, "test", Watched(splits.bundle.test))
        return splits

    def measure(net: nn.Module, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        kind = "test" if isinstance(dataset, Watched) else "validation"
        seen.append((kind, {key: value.clone() for key, value in net.state_dict().items()}))
        return real_measure(net, dataset, *args, **kwargs)

    monkeypatch.setattr(assemble, "load_splits", load)
    monkeypatch.setattr(objective, "measure", measure)
    # A rate that wrecks the weights later on, so that the selected epoch is not the last one.
    recipe = small(train={"epochs": 6, "schedule": "step", "step_epochs": 3, "gamma": 3000.0})
    result = fit(recipe, tmp_path / "r", progress=False)
    assert [kind for kind, _ in seen] == ["validation"] * 6 + ["test"]
    assert sum(reads) == 60
    assert result.selected_epoch <= 3
    tested, selected = seen[-1][1], seen[result.selected_epoch - 1][1]
    for name, tensor in tested.items():
        assert torch.equal(tensor, selected[name])
        assert torch.equal(tensor, weights(tmp_path / "r")[name])
    assert fit(recipe, tmp_path / "r", progress=False) == result  # a finished run is not evaluated again
    assert sum(reads) == 60


def test_validation_samples_are_not_trained_on(small: MakeRecipe) -> None:
    splits = load_splits(small())
    assert splits.validation is not None
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (160, 40, 60)
    images = {bytes(splits.train[i][0].numpy().tobytes()) for i in range(160)}
    assert not any(splits.validation[i][0].numpy().tobytes() in images for i in range(40))
    assert load_splits(small(seed=9)).validation.labels.equal(splits.validation.labels)  # pyright: ignore[reportOptionalMemberAccess]
    assert load_splits(small(data={"validation": 0})).validation is None


def test_without_validation_the_last_weights_are_tested(small: MakeRecipe, tmp_path: Path) -> None:
    result = fit(small(data={"validation": 0}), tmp_path, progress=False)
    assert (result.selection, result.selected_epoch, result.validation) == ("last", 2, None)
    assert "val_loss" not in read_journal(tmp_path / "metrics.jsonl")[-1]


@pytest.mark.parametrize("stop_after", [1, 4, 5, 7])
def test_interrupted_run_continues_to_the_same_bits(
    small: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_after: int
) -> None:
    recipe = small(
        data={"augment": {"crop": 1, "mixup": 0.4, "cutmix": 1.0, "mix_off_epoch": 1}},
        model={"name": "spiking_mlp", "args": {"T": 2, "hidden": [24], "dropout": 0.2, "encoder": "rate"}},
        train={"epochs": 3, "ema": 0.9, "accumulate": 2, "clip_norm": 1.0, "loss": "tet", "schedule": "cosine"},
    )
    fit(recipe, tmp_path / "whole", progress=False)
    real, done = session.Session._update, []

    def update(self: session.Session, *args: Any) -> None:
        real(self, *args)
        done.append(1)
        if len(done) == stop_after:
            os.kill(os.getpid(), 2)  # Ctrl-C

    with monkeypatch.context() as patch:
        patch.setattr(session.Session, "_update", update)
        with pytest.raises(Interrupted, match="the same command continues") as caught:
            fit(recipe, tmp_path / "cut", progress=False)
    assert isinstance(caught.value, KeyboardInterrupt)
    assert not (tmp_path / "cut" / "model.safetensors").exists()
    assert fit(recipe, tmp_path / "cut", progress=False).steps == 9
    same_bits(tmp_path / "whole", tmp_path / "cut")


def test_a_folder_of_another_recipe_is_refused(small: MakeRecipe, tmp_path: Path) -> None:
    fit(small(train={"epochs": 1}), tmp_path, progress=False)
    with pytest.raises(ConfigError, match=r"train\.lr is 0\.01 there, 0\.02 now"):
        fit(small(train={"epochs": 1, "lr": 2e-2}), tmp_path, progress=False)
    other = fit(small(train={"epochs": 1, "lr": 2e-2}), tmp_path, resume=False, progress=False)
    assert len([line for line in read_journal(tmp_path / "metrics.jsonl") if "epoch" in line]) == 1
    assert other.epochs == 1


def test_max_steps_ends_inside_an_epoch(small: MakeRecipe, tmp_path: Path) -> None:
    result = fit(small(train={"max_steps": 7}), tmp_path, progress=False)
    assert (result.steps, result.epochs) == (7, 2)


def test_a_gradient_that_is_not_finite_names_step_and_layer(
    small: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = assemble.build_model

    class Poison(nn.Module):
        calls = 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            Poison.calls += self.training
            return x * float("nan") if Poison.calls > 3 else x

    def build(*args: Any) -> nn.Module:
        net = real(*args)
        net.norms[0] = nn.Sequential(net.norms[0], Poison())  # pyright: ignore[reportIndexIssue, reportArgumentType]
        return net

    monkeypatch.setattr(assemble, "build_model", build)
    # the loss stays finite, because neurons that get NaN are silent
    with pytest.raises(NonFiniteError, match=r"gradient is not finite at step 4 \(epoch 1\).* is 'norms\.0\.1'"):
        fit(small(), tmp_path, progress=False)


def test_progress_is_a_line_an_epoch_or_silent(
    small: MakeRecipe, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fit(small(), tmp_path / "a", progress=False)
    assert capfd.readouterr() == ("", "")
    fit(small(), tmp_path / "b")
    out, err = capfd.readouterr()
    assert out == ""
    assert [line.split()[0] for line in err.splitlines()] == ["epoch", "epoch", "test"]
    for word in ("loss", "acc", "firing", "val"):
        assert word in err


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_folder(small: MakeRecipe, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(RunError, match="Permission denied"):
            fit(small(), tmp_path / "r", progress=False)
    finally:
        tmp_path.chmod(0o700)


def test_a_file_in_the_place_of_the_folder(small: MakeRecipe, tmp_path: Path) -> None:
    (tmp_path / "r").write_text("")
    with pytest.raises(RunError, match="cannot make the run folder"):
        fit(small(), tmp_path / "r", progress=False)


@pytest.mark.parametrize(
    ("train", "words"),
    [
        ({"precision": "16-mixed"}, "needs a GPU"),
        ({"devices": 3}, "shared evenly"),
        ({"accelerator": "cuda", "devices": 99}, "CUDA devices"),
    ],
)
def test_what_the_machine_cannot_do(small: MakeRecipe, tmp_path: Path, train: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        fit(small(train=train), tmp_path, progress=False)


@pytest.mark.parametrize("precision", ["64-true", "bf16-mixed"])
def test_precision(small: MakeRecipe, tmp_path: Path, precision: str) -> None:
    result = fit(small(train={"precision": precision}), tmp_path, progress=False)
    assert result.test.loss < 2.5
    expected = torch.float64 if precision == "64-true" else torch.float32
    assert weights(tmp_path)["head.weight"].dtype == expected
    assert evaluate(tmp_path).n == 60


def test_arguments_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="recipe"):
        fit({"name": "x"}, tmp_path)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ArgumentError, match="dataset"):
        evaluate(nn.Linear(1, 1))
    with pytest.raises(RunError, match="not the folder of a run"):
        load_run(tmp_path)


def test_wrong_names_in_the_recipe(small: MakeRecipe, tmp_path: Path) -> None:
    with pytest.raises(ranvier.RanvierError, match="did you mean 'spiking_mlp'"):
        fit(small(model={"name": "spikin_mlp"}), tmp_path / "a", progress=False)
    with pytest.raises(ranvier.RanvierError, match="takes no argument 'hiden'"):
        fit(small(model={"args": {"hiden": [3]}}), tmp_path / "b", progress=False)
    with pytest.raises(ConfigError, match=r"data\.validation"):
        fit(small(data={"validation": 5000}), tmp_path / "c", progress=False)
    with pytest.raises(ConfigError, match="limit_train"):
        fit(small(data={"options": {"train_size": 3}}), tmp_path / "d", progress=False)


def test_recomputation_trains_to_the_same_weights(small: MakeRecipe, tmp_path: Path) -> None:
    net = {"name": "spiking_conv_net", "args": {"T": 2, "channels": [4, 8], "hidden": 8}}
    for name, economical in (("a", False), ("b", True)):
        fit(small(model=net, train={"epochs": 1, "recompute": economical}), tmp_path / name, progress=False)
    a, b = weights(tmp_path / "a"), weights(tmp_path / "b")
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
    with pytest.raises(ConfigError, match="one of compile and recompute"):
        small(train={"recompute": True, "compile": True})
