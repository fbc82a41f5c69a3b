"""From finished trials to the stored result: findings, verdict, figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from ranvier.claims.claim import Claim
from ranvier.claims.figure import Figure, bars
from ranvier.claims.record import (
    ArmRecord,
    ClaimResult,
    FigureRecord,
    FindingRecord,
    Machine,
    MetricRecord,
    TrialRecord,
    outcome_of,
)
from ranvier.claims.rules import verdict
from ranvier.claims.table import Table
from ranvier.train.files import explained, write_json


def conclude(claim: Claim, scale: str, records: Sequence[TrialRecord], folder: Path, complete: bool) -> ClaimResult:
    """Decide the rules on the finished trials and store `folder/result.json`.

    `complete` says whether the seeds are the ones the scale asks for.
    """
    table = Table(claim, {(record.arm, record.seed): outcome_of(record) for record in records})
    findings = [rule.decide(table) for rule in claim.rules]
    figures: Sequence[Figure] = claim.figures(table) if claim.figures else [bars(table, claim.metrics[0].name)]
    plan = claim.scales[scale]
    machines: list[Machine] = []
    for record in records:
        if record.machine not in machines:
            machines.append(record.machine)
    result = ClaimResult(
        name=claim.name, title=claim.title, system=claim.system, paper=claim.paper, statement=claim.statement,
        question=claim.question, data=claim.data, comment=claim.comment, version=claim.version,
        scale=scale, scale_note=plan.note, settings=dict(plan.settings), seeds=table.seeds,
        complete=complete and table.seeds == sorted(plan.seeds),
        verdict=verdict(findings), findings=[FindingRecord(**asdict(finding)) for finding in findings],
        metrics=[MetricRecord(**asdict(metric)) for metric in claim.metrics],
        arms=[
            ArmRecord(
                name=arm.name, description=arm.description, settings=dict(arm.settings),
                values={metric.name: table.values(metric.name, arm.name) for metric in claim.metrics},
            )
            for arm in claim.arms
        ],
        figures=[FigureRecord.model_validate(asdict(figure)) for figure in figures],
        notes=sorted({note for record in records for note in record.notes}), machines=machines,
        wall_s=sum(record.wall_s for record in records), finished=datetime.now(UTC).isoformat(timespec="seconds"),
        command=f"ranvier claims run {claim.name}" + ("" if scale == "quick" else f" --scale {scale}"),
    )  # fmt: skip
    with explained(f"write {folder / 'result.json'}"):
        write_json(folder / "result.json", result.model_dump(mode="json"))
    return result
