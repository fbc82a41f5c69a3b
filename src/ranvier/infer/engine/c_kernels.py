"""The instructions in C99, one function each, in the order of arithmetic of the Numba kernels."""

from __future__ import annotations

# Kinds of the parameters by name: F a pointer to real numbers, J to indices, Q to 8-bit weights, A to sums, U to words,
# anything else a number. Some instructions have their own.
KINDS_OF = {
    "x": "F", "y": "F", "w": "F", "b": "F", "v": "F", "k": "F", "th": "F", "a": "F", "scale": "F", "pending": "F",
    "s": "F", "L": "J", "ptr": "J", "idx": "J", "off": "J", "pos": "J", "map": "J", "to": "J", "table": "J",
    "source": "J", "target": "J", "amap": "J", "bmap": "J", "acc": "A", "left": "U", "right": "U",
}  # fmt: skip
OWN_KINDS = {
    ("rows_int8", "w"): "Q", ("rows_int8_dense", "w"): "Q", ("conv_int8", "w"): "Q", ("pack", "words"): "U",
    ("max_event", "M"): "J",
}  # fmt: skip
CONSTANTS = {"lif": 2, "int_lif": 4, "leaky": 1, "binary": 1, "popcount": 1, "rows_int8": 1, "rows_int8_dense": 1,
             "conv_int8": 1}  # fmt: skip

PRELUDE = """\
/* A list of events is its length and then the positions of what is not zero. */
static void add_row(real *y, const real *w, int n, real v) {
    int j;
    if (v == (real)1) for (j = 0; j < n; j++) y[j] = y[j] + w[j];
    else for (j = 0; j < n; j++) y[j] = y[j] + v * w[j];
}

static void add_levels(int32_t *s, const int8_t *w, int n, int32_t k) {
    int j;
    for (j = 0; j < n; j++) s[j] += k * (int32_t)w[j];
}

static void fill(real *y, const real *b, int P, int co) {
    int p, j;
    for (p = 0; p < P; p++) for (j = 0; j < co; j++) y[p * co + j] = b[j];
}

static void finish(real *y, const int32_t *s, const real *b, const real *scale, int P, int co) {
    int p, j;
    for (p = 0; p < P; p++) for (j = 0; j < co; j++) y[p * co + j] = (real)s[p * co + j] * scale[j] + b[j];
}
"""

_CONV = """\
    int width = co / groups, inputs = ci / groups, i, ky, kx;
    for (i = 0; i < L[0]; i++) {
        int e = L[1 + i], pixel = e / ci, c = e - pixel * ci, row = pixel / W, column = pixel - row * W;
        int shift = (c / inputs) * width;
        @VALUE@
        for (ky = 0; ky < kh; ky++) {
            int down = row + ph - ky * dh;
            if (down < 0 || down % sh || down / sh >= OH) continue;
            for (kx = kw - 1; kx >= 0; kx--) {
                int across = column + pw - kx * dw;
                if (across < 0 || across % sw || across / sw >= OW) continue;
                @ADD@
            }
        }
    }
"""
_WINDOW = ("int H, int W, int ci, int OH, int OW, int co, int kh, int kw, int sh, int sw, int ph, int pw, int dh, "
           "int dw, int groups")  # fmt: skip

SOURCES: dict[str, str] = {
    "copy": """\
static void k_copy(const real *x, real *y, int n, const int32_t *map) {
    int j;
    for (j = 0; j < n; j++) y[j] = x[map[j]];
}
""",
    "events": """\
static void k_events(const real *x, int n, int32_t *L) {
    int j, found = 0;
    for (j = 0; j < n; j++) if (x[j] != 0) L[1 + found++] = j;
    L[0] = found;
}
""",
    "rows_event": """\
static void k_rows_event(const real *x, const int32_t *L, const real *w, real *y, const real *b, int P, int ci, int co,
                         int binary) {
    int i;
    (void)binary;
    fill(y, b, P, co);
    for (i = 0; i < L[0]; i++) {
        int e = L[1 + i], p = e / ci;
        add_row(y + p * co, w + (e - p * ci) * co, co, x[e]);
    }
}
""",
    "rows_dense": """\
static void k_rows_dense(const real *x, const real *w, real *y, const real *b, int P, int ci, int co) {
    int p, i;
    fill(y, b, P, co);
    for (p = 0; p < P; p++) for (i = 0; i < ci; i++) add_row(y + p * co, w + i * co, co, x[p * ci + i]);
}
""",
    "rows_int8": """\
static void k_rows_int8(const real *x, const int32_t *L, const int8_t *w, real *y, const real *b, int P, int ci, int co,
                        int binary, const real *scale, int32_t *acc, real unit) {
    int i;
    (void)binary;
    memset(acc, 0, sizeof(int32_t) * (size_t)(P * co));
    for (i = 0; i < L[0]; i++) {
        int e = L[1 + i], p = e / ci;
        add_levels(acc + p * co, w + (e - p * ci) * co, co, (int32_t)rint(x[e] * unit));
    }
    finish(y, acc, b, scale, P, co);
}
""",
    "rows_int8_dense": """\
static void k_rows_int8_dense(const real *x, const int8_t *w, real *y, const real *b, int P, int ci, int co,
                              const real *scale, int32_t *acc, real unit) {
    int p, i;
    memset(acc, 0, sizeof(int32_t) * (size_t)(P * co));
    for (p = 0; p < P; p++)
        for (i = 0; i < ci; i++) add_levels(acc + p * co, w + i * co, co, (int32_t)rint(x[p * ci + i] * unit));
    finish(y, acc, b, scale, P, co);
}
""",
    "conv_event": f"""\
static void k_conv_event(const real *x, const int32_t *L, const real *w, real *y, const real *b, {_WINDOW},
                         int binary) {{
    (void)H; (void)binary;
    fill(y, b, OH * OW, co);
    {{
"""
    + _CONV.replace("@VALUE@", "real v = x[e];").replace(
        "@ADD@",
        "add_row(y + (down / sh * OW + across / sw) * co + shift,\n                        "
        "w + ((c * kh + ky) * kw + kw - 1 - kx) * width, width, v);",
    )
    + "    }\n}\n",
    "conv_int8": f"""\
static void k_conv_int8(const real *x, const int32_t *L, const int8_t *w, real *y, const real *b, {_WINDOW},
                        int binary, const real *scale, int32_t *acc, real unit) {{
    (void)H; (void)binary;
    memset(acc, 0, sizeof(int32_t) * (size_t)(OH * OW * co));
    {{
"""
    + _CONV.replace("@VALUE@", "int32_t v = (int32_t)rint(x[e] * unit);").replace(
        "@ADD@",
        "add_levels(acc + (down / sh * OW + across / sw) * co + shift,\n                           "
        "w + ((c * kh + ky) * kw + kw - 1 - kx) * width, width, v);",
    )
    + "    }\n    finish(y, acc, b, scale, OH * OW, co);\n}\n",
    "conv_dense": f"""\
static void k_conv_dense(const real *x, const real *w, real *y, const real *b, {_WINDOW}) {{
    int width = co / groups, inputs = ci / groups, out, over, ky, kx, g, c;
    fill(y, b, OH * OW, co);
    for (out = 0; out < OH; out++) for (over = 0; over < OW; over++)
        for (ky = 0; ky < kh; ky++) for (kx = 0; kx < kw; kx++) {{
            int row = out * sh + ky * dh - ph, column = over * sw + kx * dw - pw;
            if (row < 0 || row >= H || column < 0 || column >= W) continue;
            for (g = 0; g < groups; g++) for (c = g * inputs; c < (g + 1) * inputs; c++)
                add_row(y + (out * OW + over) * co + g * width, w + ((c * kh + ky) * kw + kw - 1 - kx) * width, width,
                        x[(row * W + column) * ci + c]);
        }}
}}
""",
    "delay": """\
static void k_delay(const real *x, const int32_t *L, const real *w, real *y, const real *b, int outputs, int K,
                    const int32_t *ptr, const int32_t *off, real *pending, int32_t *pos, int binary, int contiguous) {
    int now = pos[0], i, j;
    real *window;
    (void)binary; (void)ptr; (void)off;
    if (now > K) {
        int kept = (2 * K - now) * outputs;
        memmove(pending, pending + now * outputs, sizeof(real) * (size_t)kept);
        for (j = kept; j < 2 * K * outputs; j++) pending[j] = 0;
        now = 0;
    }
    window = pending + now * outputs;
    for (i = 0; i < L[0]; i++) {
        int e = L[1 + i];
        real v = x[e];
        if (contiguous) add_row(window, w + e * K * outputs, K * outputs, v);
        else for (j = ptr[e]; j < ptr[e + 1]; j++) window[off[j]] += v == (real)1 ? w[j] : v * w[j];
    }
    for (j = 0; j < outputs; j++) y[j] = window[j] + b[j];
    pos[0] = now + 1;
}
""",
    "lif": """\
static void k_lif(const real *x, real *v, real *y, int n, int C, const real *k, const real *th, int uniform,
                  int decay_input, int soft, int32_t *L, real r, real unit) {
    int j, found = 0;
    for (j = 0; j < n; j++) {
        int c = uniform ? 0 : j % C;
        real h = decay_input ? v[j] + k[c] * (x[j] - (v[j] - r)) : v[j] - k[c] * (v[j] - r) + x[j];
        int fired = h - th[c] >= (real)0;
        v[j] = fired ? (soft ? h - th[c] : r) : h;
        y[j] = fired ? unit : (real)0;
        if (fired && L) L[1 + found++] = j;
    }
    if (L) L[0] = found;
}
""",
    "int_lif": """\
static void k_int_lif(const real *x, real *v, real *y, int n, int C, const real *k, const real *th, int uniform,
                      int decay_input, int soft, int32_t *L, int half_even, real r, real levels, real a, real b) {
    int j, found = 0;
    for (j = 0; j < n; j++) {
        int c = uniform ? 0 : j % C;
        real h = decay_input ? v[j] + k[c] * (x[j] - (v[j] - r)) : v[j] - k[c] * (v[j] - r) + x[j];
        real u = h * (a / th[c]), count;
        u = u < 0 ? (real)0 : u > levels ? levels : u;
        count = (real)(half_even ? rint(u) : floor(u + (real)0.5));
        y[j] = count * b;
        v[j] = soft ? h - count * (th[c] / a) : count > 0 ? r : h;
        if (count > 0 && L) L[1 + found++] = j;
    }
    if (L) L[0] = found;
}
""",
    "leaky": """\
static void k_leaky(const real *x, real *v, real *y, int n, real keep) {
    int j;
    for (j = 0; j < n; j++) y[j] = v[j] = x[j] + keep * v[j];
}
""",
    "affine": """\
static void k_affine(const real *x, real *y, int n, int C, const real *a, const real *b) {
    int j;
    for (j = 0; j < n; j++) y[j] = x[j] * a[j % C] + b[j % C];
}
""",
    "max_dense": """\
static void k_max_dense(const real *x, real *y, int H, int W, int C, int OH, int OW, int kh, int kw, int sh, int sw,
                        int ph, int pw, int dh, int dw) {
    int out, over, ky, kx, j;
    for (out = 0; out < OH; out++) for (over = 0; over < OW; over++) {
        int fresh = 1;
        real *to = y + (out * OW + over) * C;
        for (ky = 0; ky < kh; ky++) for (kx = 0; kx < kw; kx++) {
            int row = out * sh + ky * dh - ph, column = over * sw + kx * dw - pw;
            const real *from = x + (row * W + column) * C;
            if (row < 0 || row >= H || column < 0 || column >= W) continue;
            for (j = 0; j < C; j++) if (fresh || from[j] > to[j]) to[j] = from[j];
            fresh = 0;
        }
    }
}
""",
    "max_event": """\
static void k_max_event(const real *x, const int32_t *L, real *y, int32_t *M, const int32_t *to, int fan) {
    int i, k, made = 0;
    for (i = 0; i < M[0]; i++) y[M[1 + i]] = 0;
    for (i = 0; i < L[0]; i++) {
        int e = L[1 + i];
        for (k = 0; k < fan && to[e * fan + k] >= 0; k++) {
            int at = to[e * fan + k];
            if (y[at] == 0) M[1 + made++] = at;
            if (x[e] > y[at]) y[at] = x[e];
        }
    }
    M[0] = made;
}
""",
    "sum_dense": """\
static void k_sum_dense(const real *x, real *y, int m, const int32_t *ptr, const int32_t *idx, const real *scale) {
    int i, k;
    for (i = 0; i < m; i++) {
        real total = 0;
        for (k = ptr[i]; k < ptr[i + 1]; k++) total += x[idx[k]];
        y[i] = total * scale[i];
    }
}
""",
    "sum_event": """\
static void k_sum_event(const real *x, const int32_t *L, real *y, int m, const int32_t *ptr, const int32_t *idx,
                        const real *scale) {
    int i, k;
    for (i = 0; i < m; i++) y[i] = 0;
    for (i = 0; i < L[0]; i++) {
        int e = L[1 + i];
        for (k = ptr[e]; k < ptr[e + 1]; k++) y[idx[k]] += x[e];
    }
    for (i = 0; i < m; i++) y[i] *= scale[i];
}
""",
    "binary": """\
static void k_binary(const real *a, const int32_t *amap, const real *b, int bmode, const int32_t *bmap, real *y, int n,
                     int kind, real constant) {
    int j;
    for (j = 0; j < n; j++) {
        real p = amap ? a[amap[j]] : a[j], q = bmode == 1 ? constant : bmode == 0 ? b[j] : b[bmap[j]];
        y[j] = kind == 0 ? p + q : kind == 1 ? p - q : kind == 2 ? p * q : kind == 3 ? p / q : q - p;
    }
}
""",
    "unary": """\
static void k_unary(const real *x, real *y, int n, int kind) {
    int j;
    for (j = 0; j < n; j++) {
        real v = x[j];
        y[j] = (real)(kind == 0 ? (v > 0 ? v : 0) : kind == 1 ? -v : kind == 2 ? (v < 0 ? -v : v)
               : kind == 3 ? 1 / (1 + exp(-v)) : tanh(v));
    }
}
""",
    "pack": """\
static void k_pack(const int32_t *L, const int32_t *table, uint64_t *words, int count) {
    int i;
    memset(words, 0, sizeof(uint64_t) * (size_t)count);
    for (i = 0; i < L[0]; i++) {
        int32_t bit = table[L[1 + i]];
        if (bit >= 0) words[bit >> 6] |= (uint64_t)1 << (bit & 63);
    }
}
""",
    "popcount": """\
static int bits_set(uint64_t w) {
    int n = 0;
    for (; w; w &= w - 1) n++;
    return n;
}

static void k_popcount(const uint64_t *left, const uint64_t *right, real *y, int B, int M, int N, int words, int sb,
                       int sm, int sn, real unit) {
    int b, m, n, k;
    for (b = 0; b < B; b++) for (m = 0; m < M; m++) for (n = 0; n < N; n++) {
        int total = 0;
        for (k = 0; k < words; k++)
            total += bits_set(left[(b * M + m) * words + k] & right[(b * N + n) * words + k]);
        y[b * sb + m * sm + n * sn] = (real)total * unit;
    }
}
""",
    "product_event": """\
static void k_product_event(const real *x, const real *s, const int32_t *L, const int32_t *source,
                            const int32_t *target, real *y, int n, int m, int binary) {
    int i;
    (void)binary;
    for (i = 0; i < n; i++) y[i] = 0;
    for (i = 0; i < L[0]; i++) {
        int e = L[1 + i];
        if (source[e] >= 0) add_row(y + target[e], x + source[e], m, s[e]);
    }
}
""",
    "product_dense": """\
static void k_product_dense(const real *a, const real *b, real *y, int B, int M, int N, int K) {
    int i, m, n, k;
    for (i = 0; i < B; i++) for (m = 0; m < M; m++) for (n = 0; n < N; n++) {
        real total = 0;
        for (k = 0; k < K; k++) total += a[(i * M + m) * K + k] * b[(i * N + n) * K + k];
        y[(i * M + m) * N + n] = total;
    }
}
""",
}
