"""`ranvier exit`: stop each sample as soon as the net is sure enough."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ranvier.cli.options import AsJson, DataRoot
from ranvier.cli.output import print_json, print_table
from ranvier.errors import ConfigError

exit_verb = typer.Typer(no_args_is_help=True)
Folder = Annotated[Path, typer.Argument(help="What `ranvier exit calibrate --out` wrote.")]
Samples = Annotated[int | None, typer.Option("--samples", "-n", min=1, help="Only the first so many (default: all).")]


@exit_verb.callback()
def about() -> None:
    """Early exit of a trained classifier: choose a threshold on held-out samples, evaluate it, draw the report.

    \b
    Examples:
      ranvier exit calibrate runs/first --out runs/first/exit
      ranvier exit eval runs/first/exit --time 1,64
      ranvier exit plot runs/first/exit
    """


@exit_verb.command("calibrate")
def calibrate(
    model: Annotated[Path, typer.Argument(help="Folder of a run, or of `ranvier convert --from-ann --out`.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the study.")],
    criterion: Annotated[
        list[str] | None,
        typer.Option(
            "--criterion",
            "-c",
            help="confidence, entropy, gap, cutoff, patience, conformal, fixed, learned or all; may be given again.",
        ),
    ] = None,
    alpha: Annotated[str, typer.Option("--alpha", help="Smoothing constant: a number, search or fit.")] = "search",
    tolerance: Annotated[
        float, typer.Option("--tolerance", min=0, max=1, help="Accuracy that may be lost, a share of the samples.")
    ] = 0.0,
    margin: Annotated[
        float, typer.Option("--margin", min=0, help="Standard errors above that, against a lucky choice: 1 or 2.")
    ] = 0.0,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Longest look at a static image.")] = None,
    samples: Samples = None,
    data_root: DataRoot = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of random encoders.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Choose thresholds on the samples that the training held out: the fewest mean steps without loss of accuracy.

    The test set is not looked at. Needs a run with data.validation above 0.

    \b
    Examples:
      ranvier exit calibrate runs/first --out runs/first/exit
      ranvier exit calibrate runs/snn --out runs/snn/exit --criterion all --steps 16
      ranvier exit calibrate runs/snn --out runs/snn/exit --alpha 30 --tolerance 0.002 --margin 1 --json
    """
    from ranvier.bench import exit_study

    names = list(dict.fromkeys(criterion or ["confidence"]))
    if "all" in names:
        names = list(dict.fromkeys([*(name for name in names if name != "all"), *exit_study.CRITERIA]))
    found = exit_study.calibrate(
        model, out, criteria=names, alpha=_alpha(alpha), tolerance=tolerance, margin=margin, steps=steps,  # pyright: ignore[reportArgumentType]
        samples=samples, data_root=data_root, seed=seed,
    )  # fmt: skip
    if as_json:
        print_json({**found.model_dump(exclude={"keys"}), "out": out})
        return
    print_table(
        ["criterion", ">accuracy", ">mean steps", ">fixed steps as good", "settings"],
        [(entry.name, f"{entry.accuracy:.2%}", f"{entry.mean_steps:.2f}", entry.fixed_steps, _short(entry.settings))
         for entry in found.criteria],
    )  # fmt: skip
    print(
        f"all {found.steps} steps: {found.full_accuracy:.2%} of {found.samples} samples {found.part}; oracle "
        f"{found.oracle.accuracy:.2%} in {found.oracle.mean_steps:.2f} steps; written to {out}"
    )


@exit_verb.command("eval")
def evaluate(
    folder: Folder,
    part: Annotated[str, typer.Option("--split", help="test or validation.")] = "test",
    samples: Samples = None,
    time: Annotated[
        str | None, typer.Option("--time", help="Also run and time batches of these sizes, such as 1,64,256.")
    ] = None,
    mode: Annotated[
        str,
        typer.Option("--mode", help="latency (batch by batch), throughput (places are filled again), compiled."),
    ] = "latency",
    chunk: Annotated[int, typer.Option("--chunk", min=1, help="Steps that are computed at once.")] = 1,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Of the timing.")] = 3,
    data_root: DataRoot = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of random encoders and the random control.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Apply the chosen thresholds to the test set, beside the oracle, fixed steps and random steps.

    \b
    Examples:
      ranvier exit eval runs/first/exit
      ranvier exit eval runs/first/exit --samples 512 --time 1,64 --chunk 2
      ranvier exit eval runs/first/exit --time 64 --mode throughput --json
      ranvier exit eval runs/first/exit --time 1 --mode compiled
    """
    from ranvier.bench import exit_study

    if part not in ("test", "validation"):
        raise ConfigError(f"--split {part!r}: expected test or validation")
    if mode not in ("latency", "throughput", "compiled"):
        raise ConfigError(f"--mode {mode!r}: expected latency, throughput or compiled")
    found = exit_study.evaluate(
        folder, part=part, samples=samples, time_batches=_sizes(time), mode=mode, chunk=chunk, rounds=rounds,
        data_root=data_root, seed=seed,
    )  # fmt: skip
    if as_json:
        print_json(found)
        return
    print_table(
        ["criterion", ">accuracy", ">mean steps", ">fixed steps", ">their accuracy", ">random steps"],
        [(row.name, f"{row.accuracy:.2%}", f"{row.mean_steps:.2f}", row.fixed_steps, f"{row.fixed_accuracy:.2%}",
          f"{row.random_accuracy:.2%}") for row in found.rows],
    )  # fmt: skip
    best = found.oracle
    print(
        f"all {len(found.fixed)} steps: {found.fixed[-1]:.2%} of {found.samples} samples ({found.part}); oracle "
        f"{best.accuracy:.2%} in {best.mean_steps:.2f} steps ({best.mean_steps_optimistic:.2f} counting one step for "
        "samples that are never right)"
    )
    if found.shared:
        print(f"{found.shared} of these samples are in the calibration set as well")
    if found.timings:
        print_table(
            ["mode", ">batch", ">exit ms", ">fixed ms", ">all steps ms", ">faster than fixed", ">steps computed"],
            [(t.mode, t.batch, f"{t.exit_ms:.3f}", f"{t.fixed_ms:.3f}", f"{t.full_ms:.3f}", f"{t.speedup:.2f}x",
              f"{t.mean_steps_computed:.2f}") for t in found.timings],
        )  # fmt: skip


@exit_verb.command("plot")
def plot(folder: Folder, as_json: AsJson = False) -> None:
    """Write the report: accuracy over mean steps, when samples stop, the gap to the oracle.

    \b
    Examples:
      ranvier exit plot runs/first/exit
    """
    from ranvier.bench import exit_pages

    index = exit_pages.write(folder)
    if as_json:
        print_json({"index": index})
    else:
        print(f"report: {index}")


def _alpha(given: str) -> float | str:
    if given in ("search", "fit"):
        return given
    try:
        return float(given)
    except ValueError:
        raise ConfigError(f"--alpha {given!r}: expected a number, search or fit") from None


def _sizes(given: str | None) -> list[int]:
    try:
        sizes = [int(part) for part in given.split(",")] if given else []
    except ValueError:
        sizes = [0]
    if any(size < 1 for size in sizes):
        raise ConfigError(f"--time {given!r}: expected batch sizes, such as 1,64,256")
    return sizes


def _short(settings: dict[str, object]) -> str:
    text = ", ".join(
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in settings.items() if not isinstance(value, list)
    )  # fmt: skip
    return text or "a bound a step"
