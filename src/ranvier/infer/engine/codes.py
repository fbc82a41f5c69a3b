"""The instructions of a flat program: their numbers and the names of their parameters, in order.

A program is a table of whole numbers, one row an instruction, and a table of real ones. Most numbers are offsets into
arenas: `F` real numbers (state, activations, weights), `Q` 8-bit weights, `I` indices and lists, `A` 32-bit sums, `U`
words of packed spikes. A list of events at L is its length in I[L] and then the positions of what is not zero.
"""

from __future__ import annotations

# fmt: off
FIELDS: dict[str, tuple[str, ...]] = {
    "copy": ("x", "y", "n", "map"),
    "events": ("x", "n", "L"),
    "rows_event": ("x", "L", "w", "y", "b", "P", "ci", "co", "binary"),
    "rows_dense": ("x", "w", "y", "b", "P", "ci", "co"),
    "rows_int8": ("x", "L", "w", "y", "b", "P", "ci", "co", "binary", "scale", "acc"),
    "rows_int8_dense": ("x", "w", "y", "b", "P", "ci", "co", "scale", "acc"),
    "conv_event": ("x", "L", "w", "y", "b", "H", "W", "ci", "OH", "OW", "co", "kh", "kw", "sh", "sw", "ph", "pw", "dh",
                   "dw", "groups", "binary"),
    "conv_dense": ("x", "w", "y", "b", "H", "W", "ci", "OH", "OW", "co", "kh", "kw", "sh", "sw", "ph", "pw", "dh", "dw",
                   "groups"),
    "conv_int8": ("x", "L", "w", "y", "b", "H", "W", "ci", "OH", "OW", "co", "kh", "kw", "sh", "sw", "ph", "pw", "dh",
                  "dw", "groups", "binary", "scale", "acc"),
    "delay": ("x", "L", "w", "y", "b", "O", "K", "ptr", "off", "pending", "pos", "binary", "contiguous"),
    "lif": ("x", "v", "y", "n", "C", "k", "th", "uniform", "decay_input", "soft", "L"),
    "int_lif": ("x", "v", "y", "n", "C", "k", "th", "uniform", "decay_input", "soft", "L", "half_even"),
    "leaky": ("x", "v", "y", "n"),
    "affine": ("x", "y", "n", "C", "a", "b"),
    "max_dense": ("x", "y", "H", "W", "C", "OH", "OW", "kh", "kw", "sh", "sw", "ph", "pw", "dh", "dw"),
    "max_event": ("x", "L", "y", "M", "to", "fan"),
    "sum_dense": ("x", "y", "m", "ptr", "idx", "scale"),
    "sum_event": ("x", "L", "y", "m", "ptr", "idx", "scale"),
    "binary": ("a", "amap", "b", "bmode", "bmap", "y", "n", "kind"),
    "unary": ("x", "y", "n", "kind"),
    "pack": ("L", "table", "words", "count"),
    "popcount": ("left", "right", "y", "B", "M", "N", "words", "sb", "sm", "sn"),
    "product_event": ("x", "s", "L", "source", "target", "y", "n", "m", "binary"),
    "product_dense": ("a", "b", "y", "B", "M", "N", "K"),
}
# fmt: on
CODES = {name: number for number, name in enumerate(FIELDS)}
WIDTH = 1 + max(len(fields) for fields in FIELDS.values())
REALS = 4  # real numbers a row: "lif" v_reset, unit; "int_lif" v_reset, levels, a, b; "leaky" keep; and scales
KINDS = {"add": 0, "sub": 1, "mul": 2, "div": 3, "rsub": 4}
UNARY = {"relu": 0, "neg": 1, "abs": 2, "sigmoid": 3, "tanh": 4}
