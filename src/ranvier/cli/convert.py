"""`ranvier convert` and `ranvier verify-equivalence`: binary virtual steps instead of counts, with proof."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ranvier.cli import subject
from ranvier.cli.exits import DONE, FAILED
from ranvier.cli.options import AsJson, DataRoot, KeyValues
from ranvier.cli.output import print_json, print_table
from ranvier.errors import ConfigError

Out = Annotated[Path | None, typer.Option("--out", help="Folder to write the converted net to.")]
Precision = Annotated[str, typer.Option("--precision", help="Of the comparison: float64 or float32.")]
Tolerance = Annotated[float, typer.Option("--atol", help="Largest difference of logits that counts as equal.")]


def convert(
    model: subject.Model,
    arguments: KeyValues = None,
    out: Out = None,
    no_merge: Annotated[
        bool,
        typer.Option("--no-merge", help="Keep RepConv and SepConv apart: few-bit weights, but real values inside."),
    ] = False,
    no_fold: Annotated[bool, typer.Option("--no-fold", help="Keep batch norms.")] = False,
    requantize: Annotated[
        int | None,
        typer.Option("--requantize", min=2, max=8, help="Bits for merged kernels; compares accuracy instead."),
    ] = None,
    precision: Precision = "float64",
    atol: Tolerance = 1e-6,
    data: subject.Data = None,
    data_root: DataRoot = None,
    samples: subject.Samples = 64,
    seed: subject.Seed = 0,
    from_ann: Annotated[
        bool, typer.Option("--from-ann", help="Neurons in place of the activations of a trained ANN instead.")
    ] = False,
    checkpoint: Annotated[
        Path | None,
        typer.Option("--checkpoint", help="Of --from-ann: weights of a model by name, .safetensors."),
    ] = None,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Of --from-ann: T of the spiking net.")] = 16,
    neuron: Annotated[
        str, typer.Option("--neuron", help="Of --from-ann: qcfs_if, or qffs_if with noise correction.")
    ] = "qcfs_if",
    quantile: Annotated[
        float, typer.Option("--quantile", min=0, max=1, help="Of --from-ann: of ReLU outputs, as threshold.")
    ] = 0.999,
    as_json: AsJson = False,
) -> None:
    """Turn a net into one in which binary spikes enter every synaptic layer, and prove that it is the same net.

    Counts 0..D become D virtual steps, batch norms go into weights, RepConvs merge, attention expands one operand at a
    time. Then logits, predictions and the input of every layer are compared on test samples. Exits with 1 when they
    differ.

    With --from-ann, integrate-and-fire neurons take the place of QCFS, LSQ and ReLU activations, max-pools become
    average pools, and accuracy after each step is compared with the ANN's. What cannot be converted is listed.

    \b
    Examples:
      ranvier convert runs/qsd --out runs/qsd/spikes --samples 1000
      ranvier convert qsd_transformer_15m img_size=32 'embed=[8,16,16,32]' depth=4
      ranvier convert spikformer img_size=8 in_channels=1 T=2 --json
      ranvier convert runs/ann --from-ann --steps 16 --out runs/snn
      ranvier convert resnet20_qcfs --from-ann --checkpoint model.safetensors --data cifar10 --neuron qffs_if
    """
    if from_ann:
        from ranvier.cli.from_ann import convert_from_ann

        convert_from_ann(
            model, arguments, checkpoint, data, data_root, steps, neuron, quantile, samples, seed, out, as_json
        )
        return
    if checkpoint is not None:
        raise ConfigError("--checkpoint goes with --from-ann")
    from ranvier import infer

    seen = subject.find(model, arguments, data, data_root, samples, seed)
    done = infer.convert(
        seen.net, seen.x[:, :8] if seen.x.dim() == 5 else seen.x[:8], merge=not no_merge, fold=not no_fold,
        requantize=requantize, verify=False,
    )  # fmt: skip
    found = infer.verify_equivalence(seen.net, done.net, batches(seen.x), atol=atol, dtype=precision)  # pyright: ignore[reportArgumentType]
    if out is not None:
        from dataclasses import replace

        infer.save_converted(replace(done, equivalence=found), out)
    plan = done.plan
    facts: dict[str, Any] = {
        "virtual steps": done.virtual_steps,
        "merged": len(plan.merge),
        "folded": sum(map(len, plan.fold.values())),
        "norms that stay": len(plan.unfolded),
        "weights": f"{len(plan.synapses)} layers" + (", all of 4 bits or fewer" if done.four_bit else ""),
    }
    if as_json:
        report = {**facts, "levels": done.levels, "equivalence": found.to_dict(), "unfolded": plan.unfolded}
        print_json({"model": model, "input": seen.shown, "out": out, **report})
    else:
        print_table(["", ""], list(facts.items()))
        print(found if requantize is None else f"requantized, so not the same net:\n{found}")
        print(seen.caption + ("" if out is None else f"; written to {out}"))
    raise typer.Exit(DONE if found.equal or requantize is not None else FAILED)


def verify_equivalence(
    model: subject.Model,
    converted: Annotated[Path, typer.Argument(help="The folder that `ranvier convert --out` wrote.")],
    precision: Precision = "float64",
    atol: Tolerance = 1e-6,
    data_root: DataRoot = None,
    samples: subject.Samples = 64,
    as_json: AsJson = False,
) -> None:
    """Compare a converted net, as written, with the run that it came from.

    \b
    Examples:
      ranvier verify-equivalence runs/qsd runs/qsd/spikes --samples 1000
    """
    from ranvier import infer

    seen = subject.find(model, None, None, data_root, samples, 0)
    net = infer.load_converted(converted).net
    found = infer.verify_equivalence(seen.net, net, batches(seen.x), atol=atol, dtype=precision)  # pyright: ignore[reportArgumentType]
    if as_json:
        print_json({"model": model, "converted": converted, "input": seen.shown, **found.to_dict()})
    else:
        print(found)
        print(seen.caption)
    raise typer.Exit(DONE if found.equal else FAILED)


def batches(x: Any, size: int = 64) -> list[Any]:
    """`x` (`[B, ...]`, or `[T, B, C, H, W]`) in pieces that fit into memory."""
    return list(x.split(size, 1 if x.dim() == 5 else 0))
