"""Early exit of a trained net: calibrated on what its training held out, then evaluated on the test set."""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ranvier.bench.exit_records import (
    CALIBRATION,
    EVALUATION,
    CalibrationRecord,
    CriterionRecord,
    EvaluationRecord,
    OracleRecord,
    RowRecord,
    TimedMode,
    TimingRecord,
    read_calibration,
)
from ranvier.bench.result import write_text
from ranvier.data import Samples
from ranvier.errors import ArgumentError, ConfigError, DataError
from ranvier.infer import ann_conversion_notes, compile, early_exit, load_ann_conversion
from ranvier.infer.ann_artifact import DESCRIPTION
from ranvier.train import Recipe, load_run, load_splits, parse_recipe
from ranvier.train.checkpoint import load_weights, save_weights

CRITERIA = (*early_exit.CALIBRATED, "learned")
"""What `calibrate` chooses; "learned" is a policy net that looks at the sample once and names the step."""

POLICY = "policy.safetensors"
_RANDOM_DRAWS = 5  # of the random control, whose accuracy is averaged
_BATCH = 64


def find(model: str | Path, data_root: str | Path | None = None) -> tuple[nn.Module, Recipe]:
    """The net in `model` (the folder of a run, or of a converted ANN) and the recipe that names its data."""
    folder = Path(model)
    if (folder / DESCRIPTION).exists():
        net = load_ann_conversion(folder).net
        document = ann_conversion_notes(folder).get("recipe")
        if not isinstance(document, dict):
            raise ConfigError(f"{folder}: this net was converted without data; convert a run, or with --data NAME")
        recipe = parse_recipe(document, f"{folder / DESCRIPTION}")
    else:
        net, recipe = load_run(folder)
        if recipe.train.readout not in ("mean", "sum"):
            raise ConfigError(
                f"{folder}: early exit adds outputs up, and this run decides by the readout {recipe.train.readout!r}"
            )
    if data_root is not None:
        recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"root": str(data_root)})})
    return net.eval(), recipe


def held_out(recipe: Recipe) -> Samples:
    """What the training of `recipe` set aside: the only samples that anything may be chosen on."""
    splits = load_splits(recipe)
    if splits.validation is None:
        raise ConfigError(
            "data.validation is 0: the training held nothing out, so there is nothing to calibrate on (the test set "
            "is not for choosing); train with data.validation, such as 0.1"
        )
    return splits.validation


def calibrate(
    model: str | Path,
    out: str | Path,
    *,
    criteria: Sequence[str] = ("confidence",),
    alpha: float | Literal["search", "fit"] | None = None,
    tolerance: float = 0.0,
    margin: float = 0.0,
    steps: int | None = None,
    samples: int | None = None,
    data_root: str | Path | None = None,
    seed: int = 0,
) -> CalibrationRecord:
    """Choose the thresholds of `criteria` on the held-out samples of a net's training; writes `out/exit.json`.

    Args:
        model: folder of a run, or of a net that `ranvier convert --from-ann` wrote.
        criteria: names of `CRITERIA`; the first is the one that is run for timing. A learned policy is trained on two
            of every three held-out samples and measured on the third, and its weights go to `out/policy.safetensors`.
        alpha: smoothing constant of confidence and entropy; "search" finds it with the threshold, "fit" by the
            cross-entropy; None: their defaults.
        tolerance: accuracy that may be lost against all steps, a share of the samples.
        margin: standard errors by which the accuracy has to be above that, against luck in the choice of a threshold
            (`ranvier.infer.early_exit.calibrate`; criteria that choose among thresholds only).
        steps: the longest a static image is looked at (by default the model's T).
        samples: use the first so many held-out samples (all of them by default).
    """
    unknown = [name for name in criteria if name not in CRITERIA]
    if unknown or not criteria:
        raise ArgumentError(f"criteria: expected some of {', '.join(CRITERIA)}, got {', '.join(unknown) or 'none'}")
    net, recipe = find(model, data_root)
    part = held_out(recipe)
    logits, labels, keys, looks = _recorded(net, part, steps, samples, seed, "learned" in criteria)
    full = early_exit.fixed_steps(logits, labels)
    chosen = [
        _learned(Path(out), looks, logits, labels, tolerance, seed) if name == "learned"
        else _criterion(name, logits, labels, alpha, tolerance, margin)
        for name in criteria
    ]  # fmt: skip
    record = CalibrationRecord(
        model=str(model), data=recipe.data.name, part="held out of training", samples=len(labels),
        classes=logits.shape[-1], steps=len(logits), tolerance=tolerance, margin=margin,
        full_accuracy=full[-1], fixed=full, oracle=_oracle(logits, labels), criteria=chosen, keys=keys,
    )  # fmt: skip
    write_text(Path(out) / CALIBRATION, record.model_dump_json(indent=1) + "\n")
    return record


def evaluate(
    folder: str | Path,
    *,
    part: Literal["test", "validation"] = "test",
    samples: int | None = None,
    time_batches: Sequence[int] = (),
    mode: TimedMode = "latency",
    chunk: int = 1,
    rounds: int = 3,
    data_root: str | Path | None = None,
    seed: int = 0,
) -> EvaluationRecord:
    """Apply what `calibrate` wrote to `folder` to the test set, with oracle and controls; writes `folder/eval.json`.

    `time_batches`: also really run the first criterion with these batch sizes (slots in mode "throughput"), in turns
    with the fixed number of steps that was as good on the calibration set. Mode "compiled" runs all of them on the
    compiled net (`ranvier.infer.compile`), one sample after the other.
    """
    place = Path(folder)
    chosen = read_calibration(place)
    net, recipe = find(chosen.model, data_root)
    test = load_splits(recipe).test if part == "test" else held_out(recipe)
    learned = any(entry.name == "learned" for entry in chosen.criteria)
    logits, labels, keys, looks = _recorded(net, test, chosen.steps, samples, seed, learned)
    fixed = early_exit.fixed_steps(logits, labels)
    rows: list[RowRecord] = []
    for entry in chosen.criteria:
        found = early_exit.evaluate_exit(logits, labels, _chosen(place, entry), x=looks)
        draws = [
            early_exit.evaluate_exit(logits, labels, early_exit.RandomLike(found.histogram, seed + draw)).accuracy
            for draw in range(_RANDOM_DRAWS)
        ]
        rows.append(RowRecord(
            name=entry.name, accuracy=found.accuracy, mean_steps=found.mean_steps, histogram=found.histogram,
            fixed_steps=entry.fixed_steps, fixed_accuracy=fixed[min(entry.fixed_steps, len(fixed)) - 1],
            random_accuracy=statistics.fmean(draws),
        ))  # fmt: skip
    x = test.batch(range(min(samples or len(test), len(test))))[0] if time_batches else torch.zeros(0)
    record = EvaluationRecord(
        part=part, samples=len(labels), shared=len(set(keys) & set(chosen.keys)), fixed=fixed,
        oracle=_oracle(logits, labels), rows=rows,
        timings=[
            _timed(net, chosen, _chosen(place, chosen.criteria[0]), x, test.time_first, b, mode, chunk, rounds)
            for b in time_batches
        ],
    )  # fmt: skip
    write_text(place / EVALUATION, record.model_dump_json(indent=1) + "\n")
    return record


def _chosen(place: Path, entry: CriterionRecord) -> early_exit.Criterion:
    """The criterion that was written down."""
    if entry.name != "learned":
        return early_exit.named_criterion(entry.name, **entry.settings)
    try:
        net = early_exit.PolicyNet(entry.settings["shape"], entry.settings["steps"])
        net.load_state_dict(load_weights(place / POLICY))
    except (KeyError, TypeError, RuntimeError) as error:
        raise DataError(f"{place / POLICY}: not the policy of {place / CALIBRATION} ({str(error)[:200]})") from error
    return early_exit.LearnedPolicy(net.eval())


def _learned(
    out: Path, looks: Tensor | None, logits: Tensor, labels: Tensor, tolerance: float, seed: int
) -> CriterionRecord:
    assert looks is not None
    found = early_exit.fit_policy(looks, logits, labels, tolerance, seed=seed)
    out.mkdir(parents=True, exist_ok=True)
    save_weights(out / POLICY, found.policy.net.state_dict())
    part, right = logits[:, found.kept], labels[found.kept]
    most = early_exit.fixed_steps(part, right)[-1]
    enough = early_exit.smallest_sufficient(part, right, min(found.found.accuracy, most))
    settings = {"shape": list(looks.shape[1:]), "steps": len(logits), "beta": found.beta, "kept": len(found.kept)}
    return CriterionRecord(
        name="learned", settings=settings, accuracy=found.found.accuracy, mean_steps=found.found.mean_steps,
        fixed_steps=enough or len(logits), front=[],
    )  # fmt: skip


def _criterion(
    name: str,
    logits: Tensor,
    labels: Tensor,
    alpha: float | Literal["search", "fit"] | None,
    tolerance: float,
    margin: float,
) -> CriterionRecord:
    smoothing = early_exit.fit_alpha(logits, labels) if alpha == "fit" else None if alpha == "search" else alpha
    if alpha == "search" and name in ("confidence", "entropy"):
        criterion, _ = early_exit.calibrate_alpha(
            logits,
            labels,
            make=lambda a: early_exit.named_criterion(name, alpha=a),
            tolerance=tolerance,
            margin=margin,
        )
    else:
        criterion = early_exit.fitted(name, logits, labels, smoothing)
    if name in ("cutoff", "conformal"):  # these have bounds of their own, fitted to an accuracy
        found = early_exit.evaluate_exit(logits, labels, criterion)
        accuracy, mean_steps, front = found.accuracy, found.mean_steps, []
    else:
        found = early_exit.calibrate(logits, labels, criterion, tolerance, margin=margin)
        accuracy, mean_steps = found.accuracy, found.mean_steps
        front = [(mean, right) for _, mean, right in found.front]
    enough = early_exit.smallest_sufficient(logits, labels, min(accuracy, early_exit.fixed_steps(logits, labels)[-1]))
    return CriterionRecord(
        name=name, settings=early_exit.criterion_settings(name, criterion), accuracy=accuracy, mean_steps=mean_steps,
        fixed_steps=enough or len(logits), front=front,
    )  # fmt: skip


def _recorded(
    net: nn.Module, part: Samples, steps: int | None, samples: int | None, seed: int, look: bool = False
) -> tuple[Tensor, Tensor, list[str], Tensor | None]:
    """Logits, labels and digests of the first `samples` samples of `part`, and what a policy sees of them (`look`)."""
    if samples is not None and samples < 1:
        raise ArgumentError(f"samples must be at least 1, got {samples}")
    count = min(samples or len(part), len(part))
    keys: list[str] = []
    looks: list[Tensor] = []

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, count, _BATCH):
            x, y = part.batch(range(start, min(start + _BATCH, count)))
            keys.extend(digests(x, part.time_first))
            if look:
                looks.append((x[0] if part.time_first else x).float())
            yield x, y

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        logits, labels = early_exit.record(net, batches(), None if part.time_first else steps)
    return logits, labels, keys, torch.cat(looks) if look else None


def digests(x: Tensor, time_first: bool) -> list[str]:
    """A digest of every sample of a batch."""
    rows = x.transpose(0, 1) if time_first else x
    return [hashlib.sha256(row.contiguous().numpy().tobytes()).hexdigest()[:16] for row in rows]


def _oracle(logits: Tensor, labels: Tensor) -> OracleRecord:
    found = asdict(early_exit.oracle(logits, labels))
    return OracleRecord(**{key: found[key] for key in OracleRecord.model_fields})


def _timed(
    net: nn.Module, chosen: CalibrationRecord, criterion: early_exit.Criterion, x: Tensor, time_first: bool, batch: int,
    mode: TimedMode, chunk: int, rounds: int,
) -> TimingRecord:  # fmt: skip
    entry = chosen.criteria[0]
    limit = x.shape[0] if time_first else chosen.steps
    engine = compile(net, x[:, :1] if time_first else x[:1]) if mode == "compiled" else None

    def runner(what: early_exit.Criterion, how: str, size: int, longest: int) -> early_exit.EarlyExitRunner:
        return early_exit.EarlyExitRunner(
            net, what, steps=longest, mode="throughput" if how == "throughput" else "latency", chunk=size, slots=batch,
            engine=engine,
        )  # fmt: skip

    fixed = min(entry.fixed_steps, limit)
    leaving = runner(criterion, mode, chunk, limit)
    ways: dict[str, Any] = {
        "exit": leaving,
        "fixed": runner(early_exit.FixedSteps(fixed), "latency", fixed, fixed),  # all of its steps in one pass
        "full": runner(early_exit.FixedSteps(limit), "latency", limit, limit),
    }
    count, axis = x.shape[1 if time_first else 0], 1 if time_first else 0
    if mode == "throughput":  # gets the whole queue; the fixed nets get batches of as many rows
        ways |= {name: _in_batches(ways[name], batch, axis) for name in ("fixed", "full")}
    spent = early_exit.take_turns(ways, x, count if mode == "throughput" else batch, rounds, axis)
    parts = [x] if mode == "throughput" else list(x.split(batch, axis))
    runs = [leaving(part) for part in parts]
    with torch.no_grad():
        logits, _ = early_exit.record(
            net, ((part, torch.zeros(part.shape[axis], dtype=torch.long)) for part in x.split(_BATCH, axis)),
            None if time_first else limit,
        )  # fmt: skip
    expected = early_exit.evaluate_exit(logits, None, criterion, x=x[0] if time_first else x)
    steps = torch.cat([run.steps for run in runs])
    ratios = [a / b for a, b in zip(spent["fixed"], spent["exit"], strict=True)]
    middle = {name: statistics.median(seconds) / count * 1e3 for name, seconds in spent.items()}
    return TimingRecord(
        name=entry.name, mode=mode, batch=batch, chunk=chunk, samples=count, rounds=rounds,
        threads=torch.get_num_threads(), fixed_steps=fixed, exit_ms=middle["exit"], fixed_ms=middle["fixed"],
        full_ms=middle["full"], speedup=statistics.median(ratios), mean_steps=float(steps.double().mean()),
        mean_steps_computed=sum(run.row_steps for run in runs) / count,
        same_decisions=float((steps == expected.steps).double().mean()),
    )  # fmt: skip


def _in_batches(run: Any, batch: int, axis: int) -> Any:
    return lambda x: [run(part) for part in x.split(batch, axis)]
