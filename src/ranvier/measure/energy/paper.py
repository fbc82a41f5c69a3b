"""The recipe that most publications on spiking transformers use: 4.6 pJ a MAC, 0.9 pJ an AC, 45 nm fp32."""

from __future__ import annotations

from ranvier.errors import ArgumentError, nearest
from ranvier.measure.energy.estimate import LayerEnergy, OpClass, PaperEnergy
from ranvier.measure.report import Report, Row

MAC_PJ = 4.6
AC_PJ = 0.9


def recipe_pj(macs: float, acs: float) -> float:
    """`4.6 pJ · N_MAC + 0.9 pJ · N_AC`."""
    return MAC_PJ * macs + AC_PJ * acs


def paper(report: Report, *, first: str | None = None, classifier: str | None = None) -> PaperEnergy:
    """Energy of one inference as publications print it, in pJ, from the same counts.

    The first layer with real input counts its dense MACs at every step, the classifier its dense MACs once (it reads a
    mean over time). Every other layer counts dense operations, padding and bias included, times its measured input
    rate as ACs. A product of activations counts its dense operations times the smaller rate of its spiking factors:
    T·heads·N·d²·(min(r_k, r_v) + r_q) for Q (Kᵀ V). Batch norms, neurons, poolings, shortcuts and memory are free.

    Args:
        report: of `ranvier.measure.count`.
        first: name of the row that the image enters; default the first row, if its input is real or counted.
        classifier: name of the row that classifies; default the last row with weights.
    """
    weighted = [row.name for row in report.rows if row.other is None]
    if not weighted:
        raise ArgumentError("the report has no layer with weights")
    for argument, name in (("first", first), ("classifier", classifier)):
        if name is not None and name not in weighted:
            raise ArgumentError(f"{argument}: no layer {name!r} in the report{nearest(name, weighted)}")
    classifier = classifier or weighted[-1]
    if first is None:
        start = next(row for row in report.rows if row.name == weighted[0])
        first = None if start.input.spikes else start.name
    layers: list[LayerEnergy] = []
    for row in report.rows:
        op_class, ops = _operations(row, row.name == first, row.name == classifier, report.T)
        layers.append(
            LayerEnergy(row.name, op_class, ops, {op_class.lower(): ops * (MAC_PJ if op_class == "MAC" else AC_PJ)})
        )
    return PaperEnergy(
        layers=tuple(layers),
        constants={"process": "45 nm, fp32", "mac_pj": MAC_PJ, "ac_pj": AC_PJ},
        assumptions=(
            f"MACs: {' and '.join(name for name in dict.fromkeys((first, classifier)) if name)}; all else: ACs at the "
            "measured input rate",
            "batch norms, neurons, poolings, shortcuts and memory are free",
        ),
    )


def _operations(row: Row, first: bool, classifier: bool, T: int) -> tuple[OpClass, float]:
    if row.other is not None:
        rates = [o.density for o in (row.input, row.other) if o.input_class != "real" and not o.from_synapses]
        return ("AC", row.macs_padded * min(rates)) if rates else ("MAC", row.macs_padded)
    dense = row.macs_padded + (row.outputs if row.bias else 0.0)
    if classifier and not first:
        return "MAC", dense / T
    return ("MAC", dense) if first else ("AC", dense * row.input.density)
