"""The loop over the instructions of a program: one compiled function for every net."""

from __future__ import annotations

import numba
import numpy as np

from ranvier.infer.engine import numba_conv as conv
from ranvier.infer.engine import numba_linear as linear
from ranvier.infer.engine import numba_neuron as neuron
from ranvier.infer.engine import numba_rest as rest
from ranvier.infer.engine.codes import CODES

_jit = numba.njit(nogil=True, cache=True, error_model="numpy", no_cfunc_wrapper=True)
COPY, EVENTS, ROWS_EVENT, ROWS_DENSE = CODES["copy"], CODES["events"], CODES["rows_event"], CODES["rows_dense"]
ROWS_INT8, ROWS_INT8_DENSE, CONV_EVENT = CODES["rows_int8"], CODES["rows_int8_dense"], CODES["conv_event"]
CONV_DENSE, CONV_INT8, DELAY, LIF = CODES["conv_dense"], CODES["conv_int8"], CODES["delay"], CODES["lif"]
INT_LIF, LEAKY, AFFINE, MAX_DENSE = CODES["int_lif"], CODES["leaky"], CODES["affine"], CODES["max_dense"]
MAX_EVENT, SUM_DENSE, SUM_EVENT = CODES["max_event"], CODES["sum_dense"], CODES["sum_event"]
BINARY, UNARY, PACK, POPCOUNT = CODES["binary"], CODES["unary"], CODES["pack"], CODES["popcount"]
PRODUCT_EVENT, PRODUCT_DENSE = CODES["product_event"], CODES["product_dense"]


@_jit
def drive(F, Q, J, A, U, M8, M64, P, S, first, last):
    """Instructions `first` to `last` of program `P`, `S`."""
    for o in range(first, last):
        p = P[o]
        code = p[0]
        if code == ROWS_EVENT:
            linear.rows_event(F, J, p)
        elif code == ROWS_DENSE:
            linear.rows_dense(F, p)
        elif code == CONV_EVENT:
            conv.conv_event(F, J, p)
        elif code == CONV_DENSE:
            conv.conv_dense(F, p)
        elif code == LIF:
            neuron.lif(F, J, M8, M64, p, S[o, 0], S[o, 1])
        elif code == INT_LIF:
            neuron.int_lif(F, J, M8, M64, p, S[o, 0], S[o, 1], S[o, 2], S[o, 3])
        elif code == DELAY:
            neuron.delay(F, J, p)
        elif code == EVENTS:
            rest.events(F, J, p)
        elif code == COPY:
            rest.copy(F, J, p)
        elif code == MAX_EVENT:
            conv.max_event(F, J, p)
        elif code == MAX_DENSE:
            conv.max_dense(F, p)
        elif code == ROWS_INT8:
            linear.rows_int8(F, Q, J, A, p, S[o, 0])
        elif code == ROWS_INT8_DENSE:
            linear.rows_int8_dense(F, Q, A, p, S[o, 0])
        elif code == CONV_INT8:
            conv.conv_int8(F, Q, J, A, p, S[o, 0])
        elif code == LEAKY:
            neuron.leaky(F, p, S[o, 0])
        elif code == AFFINE:
            rest.affine(F, p)
        elif code == SUM_DENSE:
            rest.sum_dense(F, J, p)
        elif code == SUM_EVENT:
            rest.sum_event(F, J, p)
        elif code == BINARY:
            rest.binary(F, J, p, S[o, 0])
        elif code == UNARY:
            rest.unary(F, p)
        elif code == PACK:
            rest.pack(J, U, p)
        elif code == POPCOUNT:
            rest.popcount_product(F, U, p, S[o, 0])
        elif code == PRODUCT_EVENT:
            rest.product_event(F, J, p)
        elif code == PRODUCT_DENSE:
            rest.product_dense(F, p)


@_jit
def drive_steps(F, Q, J, A, U, M8, M64, P, S, X, Y, to, table):
    """All steps of `X` `[T, n]`, outputs into `Y` `[T, m]`; `to` is the place of the input, `table` the one of every
    element of the output."""
    first = np.int64(0)  # a literal 0 would compile `drive` a second time
    for t in range(X.shape[0]):
        for j in range(X.shape[1]):
            F[to + j] = X[t, j]
        drive(F, Q, J, A, U, M8, M64, P, S, first, P.shape[0])
        for j in range(Y.shape[1]):
            Y[t, j] = F[table[j]]


@_jit
def put_events(F, J, x, L, table, indices):
    """Input `x` becomes zero but at `indices`, and its list L says so; the same place twice counts twice."""
    for i in range(np.int64(J[L])):
        F[x + J[L + 1 + i]] = 0
    made = 0
    for i in range(indices.size):
        at = np.int64(table[indices[i]])
        if F[x + at] == 0:
            J[L + 1 + made] = at
            made += 1
        F[x + at] += 1
    J[L] = made
