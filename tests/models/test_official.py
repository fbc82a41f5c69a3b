"""Loading checkpoints of original repositories: wrappings, files, and every way to be wrong."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ranvier.errors import ArgumentError, CheckpointError
from ranvier.models import LoadReport, OfficialMismatchError, OfficialNames, create_model, list_models, load_official

Weights = dict[str, Tensor]


class Original(nn.Module):
    """A stand-in whose original had a linear layer under other names, and a layer that it never used."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(3, 4, 1)
        self.bn = nn.BatchNorm1d(4)

    def official_names(self) -> OfficialNames:
        return OfficialNames(
            rules=((r"fc_(?:linear|conv)\.(\w+)", r"conv.\1"), (r"fc_bn\.(\w+)", r"bn.\1")), ignored=(r"dead\d\.\w+",)
        )


def weights() -> Weights:
    return {
        "fc_linear.weight": torch.randn(4, 3), "fc_linear.bias": torch.randn(4),
        "fc_bn.weight": torch.randn(4), "fc_bn.bias": torch.randn(4),
        "fc_bn.running_mean": torch.randn(4), "fc_bn.running_var": torch.rand(4),
        "fc_bn.num_batches_tracked": torch.tensor(9), "dead1.weight": torch.randn(2),
    }  # fmt: skip


def check(model: Original, given: Weights) -> None:
    assert torch.equal(model.conv.weight[..., 0], given["fc_linear.weight"])
    assert torch.equal(model.bn.running_var, given["fc_bn.running_var"])


def test_names_and_shapes_are_translated() -> None:
    model, given = Original(), weights()
    report = load_official(model, given)
    check(model, given)
    assert report.complete and report.ignored == ("dead1.weight",)
    assert report.loaded["conv.weight"] == "fc_linear.weight" and len(report.loaded) == 7
    assert model.bn.num_batches_tracked.item() == 9
    assert "7 tensors loaded, 1 dead ones ignored" in str(report)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda w: {"state_dict": w, "epoch": 3},
        lambda w: {"model": w, "args": argparse.Namespace(lr=1)},
        lambda w: {"module." + name: value for name, value in w.items()},
        lambda w: {"model": {"module." + name: value for name, value in w.items()}},
        lambda w: {"state_dict": {"_orig_mod.module." + name: value for name, value in w.items()}},
    ],
)
def test_wrappings_are_removed(wrap: object) -> None:
    model, given = Original(), weights()
    assert load_official(model, wrap(given)).complete  # pyright: ignore[reportCallIssue]
    check(model, given)


def test_files(tmp_path: Path) -> None:
    given = weights()
    save_file(given, tmp_path / "w.safetensors")
    # Training scripts store their arguments beside the weights.
    torch.save({"model": given, "args": argparse.Namespace(lr=0.1), "epoch": 4}, tmp_path / "w.pth")
    for path in (tmp_path / "w.safetensors", tmp_path / "w.pth", str(tmp_path / "w.pth")):
        model = Original()
        assert load_official(model, path).complete
        check(model, given)


class Unsafe:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("executed",)


def test_a_file_that_would_run_code_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"model": weights(), "extra": Unsafe()}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_official(Original(), tmp_path / "w.pth")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
def test_damaged_and_missing_files(tmp_path: Path, name: str) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        load_official(Original(), tmp_path / name)
    save_file(weights(), tmp_path / "whole.safetensors")
    whole = (tmp_path / "whole.safetensors").read_bytes()
    for content in (b"", b"not a checkpoint", whole[: len(whole) // 2]):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CheckpointError, match="cannot be read"):
            load_official(Original(), tmp_path / name)


def test_every_mismatch_is_named_at_once_and_nothing_is_loaded() -> None:
    model, given = Original(), weights()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    del given["fc_bn.running_mean"]
    given["surplus.weight"] = torch.zeros(2)
    given["fc_linear.bias"] = torch.zeros(5)
    with pytest.raises(OfficialMismatchError) as caught:
        load_official(model, given)
    message = str(caught.value)
    assert "1 missing from the checkpoint: bn.running_mean" in message
    assert "1 not used by the model: surplus.weight" in message
    assert "fc_linear.bias is [5], conv.bias is [4]" in message
    assert isinstance(caught.value, CheckpointError) and not caught.value.report.complete
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_not_strict_loads_what_fits() -> None:
    model, given = Original(), weights()
    given["fc_linear.bias"] = torch.zeros(5)
    given["surplus.weight"] = torch.zeros(2)
    report = load_official(model, given, strict=False)
    check(model, given)
    assert report.unused == ("surplus.weight",) and len(report.mismatched) == 1 and report.missing == ()
    assert isinstance(report, LoadReport) and not report.complete


def test_two_sources_for_one_tensor_are_an_error() -> None:
    given = weights()
    given["fc_conv.bias"] = given["fc_linear.bias"]
    with pytest.raises(CheckpointError, match=r"fc_conv\.bias and fc_linear\.bias both mean conv\.bias"):
        load_official(Original(), given)


def test_only_pointwise_shapes_are_adapted() -> None:
    for wrong in (torch.zeros(3, 4), torch.zeros(4, 3, 3), torch.zeros(1, 4, 3), torch.zeros(12)):
        with pytest.raises(CheckpointError, match="do not fit"):
            load_official(Original(), {**weights(), "fc_linear.weight": wrong})
    assert load_official(Original(), {**weights(), "fc_linear.weight": torch.zeros(4, 3, 1, 1)}).complete


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({}, "this one is empty"),
        ({"epoch": 3, "fc_linear.bias": torch.zeros(4)}, "not tensors: epoch"),
        ([1, 2], "must be a mapping"),
    ],
)
def test_what_is_not_a_checkpoint(source: object, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        load_official(Original(), source)  # pyright: ignore[reportArgumentType]


def test_a_model_without_a_map_says_so() -> None:
    with pytest.raises(ArgumentError, match="SpikingMLP has no map"):
        load_official(create_model("spiking_mlp"), weights())


def test_wrong_size_points_at_the_sizes() -> None:
    model = create_model("sdt", embed_dim=32, img_size=8)
    with pytest.raises(CheckpointError, match="embed_dim, depth, num_classes"):
        load_official(model, {"head.weight": torch.zeros(7, 32), "head.bias": torch.zeros(7)})


@pytest.mark.parametrize("name", [n for n in list_models() if n.startswith(("spikformer", "sdt", "qkformer"))])
def test_every_transformer_of_a_paper_has_a_map(name: str) -> None:
    with torch.device("meta"):
        names = create_model(name).official_names()
    assert isinstance(names, OfficialNames) and names.translate("head.weight") == "head.weight"
