// A decoder's layers on a CPU, with packed weights and paged keys and values. kernels.py compiles this file.
//
// Why by hand: one token needs every weight once, so its time is the weights' bytes divided by the memory's speed. Here
// weights stay packed until they are in a register, and nothing else is read twice.
//
// Every sum runs in an order that depends on its own row alone. So a row's result is the same, to the bit, alone, in
// any batch, and in any cut of its prompt into chunks.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#ifdef _OPENMP
#include <omp.h>
#endif
#if defined(__F16C__)
#include <immintrin.h>
#endif

// Sixteen of them, as one register on AVX-512 and as several elsewhere; the compiler sees to that.
typedef float f32x16 __attribute__((vector_size(64), aligned(4)));
typedef int32_t i32x16 __attribute__((vector_size(64), aligned(4)));
typedef int8_t i8x16 __attribute__((vector_size(16), aligned(1)));
typedef uint8_t u8x64 __attribute__((vector_size(64), aligned(64)));
typedef uint16_t half;  // IEEE binary16, as torch.float16 keeps it

constexpr int64_t LANES = 16;   // rows of a matrix that are computed side by side; tokens of a page
constexpr int64_t GROUP = 32;   // columns that share a scale
constexpr int64_t TILE = 4;     // query tokens that read a page together
constexpr int64_t MAX_QUERIES = 16;  // TILE x heads of a group that fit the registers

enum Kind : int64_t { INT8_ROW = 0, INT8_GROUP = 1, INT4_GROUP = 2 };

// A [rows, columns] matrix. Codes lie as [rows / 16][columns / 4][16][4] bytes, int8 as code + 128; of int4, a byte holds
// columns c and c + 16 of a group. Scales: float [rows], or half [rows / 16][columns / 32][16]; offsets likewise.
struct Matrix {
    int64_t rows, columns, kind;
    const uint8_t *codes;
    const void *scales;
    const half *offsets;
};

// Activations, quantised symmetrically in groups of 32: value = code x scale.
struct Quantised {
    int8_t *codes;    // [tokens, columns]
    float *scales;    // [tokens, columns / 32]
    int32_t *sums;    // [tokens, columns / 32], of the codes
};

struct Layer {
    Matrix qkv, output, gate_up, down;
    const float *attention_norm, *mlp_norm, *q_norm, *k_norm, *qkv_bias, *output_bias;  // the last four may be null
    half *keys;       // [blocks][kv_heads][head_dim][16]
    half *values;     // [blocks][kv_heads][16][head_dim]
    int64_t window;   // tokens back that are seen, 0: all
};

struct Shape {
    int64_t hidden, heads, kv_heads, head_dim, inner, threads;
    float eps, scale;
};

// What one pass computes, and room to do it in.
struct Pass {
    int64_t tokens, tiles, table_width, longest;  // longest: of the contexts, rounded up to 16
    const int32_t *sequence, *position;  // [tokens]
    const int32_t *tables;               // [sequences, table_width]: the pages of each sequence
    const int32_t *tile_starts;          // [tiles + 1]: runs of at most TILE tokens of one sequence
    const float *cosine, *sine;          // [tokens, head_dim]
    float *x;                            // [tokens, hidden], the residual stream
    float *qkv, *mixed, *gates, *scores;
    Quantised quantised;
};

static inline f32x16 splat(float x) { return f32x16{} + x; }
static inline f32x16 load(const float *p) { f32x16 v; std::memcpy(&v, p, sizeof v); return v; }
static inline void store(float *p, f32x16 v) { std::memcpy(p, &v, sizeof v); }

static inline float from_half(half h) {
#if defined(__F16C__)
    return _cvtsh_ss(h);
#else
    _Float16 f; std::memcpy(&f, &h, sizeof f); return float(f);
#endif
}

static inline half to_half(float x) {
    x = x > 65504.0f ? 65504.0f : x < -65504.0f ? -65504.0f : x;  // infinity would outlive its request in a reused page
#if defined(__F16C__)
    return _cvtss_sh(x, 0);
#else
    _Float16 f = _Float16(x); half h; std::memcpy(&h, &f, sizeof h); return h;
#endif
}

static inline f32x16 load_half(const half *p) {
#if defined(__AVX512F__)
    return (f32x16)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
#else
    f32x16 v; for (int i = 0; i < LANES; i++) v[i] = from_half(p[i]); return v;
#endif
}

static inline f32x16 to_float(i32x16 v) { return __builtin_convertvector(v, f32x16); }

// In each of 16 lanes, the sum of four products: unsigned weights, signed activations (the same four in every lane).
static inline i32x16 dot4(i32x16 sum, u8x64 weights, const int8_t *x) {
    int32_t four;
    std::memcpy(&four, x, 4);
#if defined(__AVX512VNNI__)
    return (i32x16)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)weights, _mm512_set1_epi32(four));
#else
    for (int lane = 0; lane < LANES; lane++)
        for (int j = 0; j < 4; j++) sum[lane] += int32_t(weights[lane * 4 + j]) * x[j];
    return sum;
#endif
}

// To the nearest whole number, for |x| < 2^22: 1.5 x 2^23 has no room for less.
static inline f32x16 rounded(f32x16 x) { return (x + 12582912.0f) - 12582912.0f; }
static inline f32x16 size_of(f32x16 x) { return x < 0 ? -x : x; }

// e^x to about 2e-7 relative for x <= 0: 2^n times a polynomial on [-ln2/2, ln2/2] (Cephes expf).
static inline f32x16 exponential(f32x16 x) {
    x = x < -87.0f ? splat(-87.0f) : x;
    const f32x16 n = rounded(x * 1.44269504f);
    const f32x16 r = x - n * 0.693359375f + n * 2.12194440e-4f;
    f32x16 p = splat(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    i32x16 power = (__builtin_convertvector(n, i32x16) + 127) << 23;
    f32x16 two; std::memcpy(&two, &power, sizeof two);
    return p * two;
}

// Over the lanes of a register, by halves.
static inline float total(f32x16 v) {
#if defined(__AVX512F__)
    return _mm512_reduce_add_ps((__m512)v);
#else
    float part[8];
    for (int i = 0; i < 8; i++) part[i] = v[i] + v[i + 8];
    for (int n = 4; n; n /= 2) for (int i = 0; i < n; i++) part[i] += part[i + n];
    return part[0];
#endif
}

static inline int32_t total(i32x16 v) {
#if defined(__AVX512F__)
    return _mm512_reduce_add_epi32((__m512i)v);
#else
    int32_t sum = 0;
    for (int i = 0; i < LANES; i++) sum += v[i];
    return sum;
#endif
}

static inline float largest(f32x16 v) {
#if defined(__AVX512F__)
    return _mm512_reduce_max_ps((__m512)v);
#else
    float most = v[0];
    for (int i = 1; i < LANES; i++) most = v[i] > most ? v[i] : most;
    return most;
#endif
}

// --- quantised products --------------------------------------------------------------------------------------------

// A group of 32 activations to codes.
static inline void quantise_group(f32x16 low, f32x16 high, int8_t *codes, float *scale, int32_t *sum) {
    const f32x16 a = size_of(low), b = size_of(high);
    const float most = largest(a > b ? a : b), inverse = most > 0 ? 127.0f / most : 0.0f;
    const i32x16 first = __builtin_convertvector(rounded(low * inverse), i32x16), second = __builtin_convertvector(rounded(high * inverse), i32x16);
    const i8x16 one = __builtin_convertvector(first, i8x16), other = __builtin_convertvector(second, i8x16);
    std::memcpy(codes, &one, LANES);
    std::memcpy(codes + LANES, &other, LANES);
    *scale = most / 127.0f;
    *sum = total(first + second);
}

// Groups of `value(i)`, i = 0, 16, 32, ... of one token, to codes.
template <class Value>
static inline void quantise(int64_t size, int64_t token, const Quantised &to, Value value) {
    for (int64_t g = 0, at = token * (size / GROUP); g < size / GROUP; g++, at++)
        quantise_group(value(g * GROUP), value(g * GROUP + LANES), to.codes + at * GROUP, to.scales + at, to.sums + at);
}

// lesson: tile
// 16 B rows of the matrix times R tokens: each weight is loaded once and used R times, each activation B times.
template <int64_t KIND, int R, int B>
static inline void tile(const Matrix &m, int64_t block, const Quantised &x, int64_t token, float *out, int64_t stride, bool add) {
    const int64_t groups = m.columns / GROUP;
    const int64_t bytes = KIND == INT4_GROUP ? LANES * GROUP / 2 : LANES * GROUP;  // of a group
    const uint8_t *codes = m.codes + block * groups * bytes;
    const half *scales = (const half *)m.scales + block * groups * LANES;
    const half *offsets = m.offsets + block * groups * LANES;
    f32x16 sum[B][R] = {};
    for (int64_t g = 0; g < groups; g++) {
        const int8_t *here = x.codes + token * m.columns + g * GROUP;
        i32x16 dot[B][R];
        for (int r = 0; r < R; r++) {
            // int8 codes are 128 too high: what that adds to the dot product is known from the activations alone
            const int32_t excess = KIND == INT4_GROUP ? 0 : -128 * x.sums[(token + r) * groups + g];
            for (int b = 0; b < B; b++) dot[b][r] = i32x16{} + excess;
        }
        if constexpr (KIND == INT4_GROUP) {
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++) {
                u8x64 low[B], high[B];
                for (int b = 0; b < B; b++) {
                    const u8x64 both = *(const u8x64 *)(codes + (b * groups + g) * bytes + j * 64);
                    low[b] = both & 15, high[b] = both >> 4;
                }
                for (int r = 0; r < R; r++) {
                    const int8_t *row = here + r * m.columns + j * 4;
                    for (int b = 0; b < B; b++) dot[b][r] = dot4(dot4(dot[b][r], low[b], row), high[b], row + 16);
                }
            }
        } else {
#pragma GCC unroll 8
            for (int j = 0; j < GROUP / 4; j++) {
                u8x64 weights[B];
                for (int b = 0; b < B; b++) weights[b] = *(const u8x64 *)(codes + (b * groups + g) * bytes + j * 64);
                for (int r = 0; r < R; r++)
                    for (int b = 0; b < B; b++) dot[b][r] = dot4(dot[b][r], weights[b], here + r * m.columns + j * 4);
            }
        }
        for (int b = 0; b < B; b++) {
            f32x16 scale = splat(1.0f), offset{};
            if constexpr (KIND != INT8_ROW) scale = load_half(scales + (b * groups + g) * LANES);
            if constexpr (KIND == INT4_GROUP) offset = load_half(offsets + (b * groups + g) * LANES);
            for (int r = 0; r < R; r++) {
                const float own = x.scales[(token + r) * groups + g];
                if constexpr (KIND == INT8_ROW) sum[b][r] += to_float(dot[b][r]) * own;
                else sum[b][r] += to_float(dot[b][r]) * (scale * own);
                if constexpr (KIND == INT4_GROUP) sum[b][r] += offset * (own * float(x.sums[(token + r) * groups + g]));
            }
        }
    }
    for (int b = 0; b < B; b++)
        for (int r = 0; r < R; r++) {
            float *to = out + (token + r) * stride + (block + b) * LANES;
            if constexpr (KIND == INT8_ROW) sum[b][r] *= load((const float *)m.scales + (block + b) * LANES);
            store(to, add ? load(to) + sum[b][r] : sum[b][r]);
        }
}
// end lesson

// B blocks of rows times all tokens.
template <int64_t KIND, int B>
static inline void stripe(const Matrix &m, int64_t block, const Quantised &x, int64_t tokens, float *out, int64_t stride, bool add) {
    int64_t t = 0;
    for (; t + 4 <= tokens; t += 4) tile<KIND, 4, B>(m, block, x, t, out, stride, add);
    if (t + 2 <= tokens) { tile<KIND, 2, B>(m, block, x, t, out, stride, add); t += 2; }
    for (; t < tokens; t++) tile<KIND, 1, B>(m, block, x, t, out, stride, add);
}

// out [tokens, stride] = (or +=) x matrixᵀ. Called by all threads; ends with a barrier.
template <int64_t KIND>
static void product_of(const Matrix &m, const Quantised &x, int64_t tokens, float *out, int64_t stride, bool add) {
    const int64_t blocks = m.rows / LANES;
#pragma omp for schedule(static)
    for (int64_t pair = 0; pair < (blocks + 1) / 2; pair++) {
        if (2 * pair + 1 < blocks) stripe<KIND, 2>(m, 2 * pair, x, tokens, out, stride, add);
        else stripe<KIND, 1>(m, 2 * pair, x, tokens, out, stride, add);
    }
}

static void product(const Matrix &m, const Quantised &x, int64_t tokens, float *out, int64_t stride, bool add) {
    if (m.kind == INT8_ROW) product_of<INT8_ROW>(m, x, tokens, out, stride, add);
    else if (m.kind == INT8_GROUP) product_of<INT8_GROUP>(m, x, tokens, out, stride, add);
    else product_of<INT4_GROUP>(m, x, tokens, out, stride, add);
}

// --- the parts of a layer ------------------------------------------------------------------------------------------

static inline float inverse_rms(const float *x, int64_t size, float eps) {
    f32x16 sum{};
    for (int64_t i = 0; i < size; i += LANES) { const f32x16 v = load(x + i); sum += v * v; }
    return 1.0f / std::sqrt(total(sum) / float(size) + eps);
}

// RMSNorm, then quantise: what every product of a layer begins with.
static void norm_quantise(const float *x, const float *weight, int64_t tokens, int64_t size, float eps, const Quantised &to) {
#pragma omp for schedule(static)
    for (int64_t t = 0; t < tokens; t++) {
        const float *row = x + t * size;
        const float inverse = inverse_rms(row, size, eps);
        quantise(size, t, to, [&](int64_t i) { return load(row + i) * inverse * load(weight + i); });
    }
}

static void quantise_rows(const float *x, int64_t tokens, int64_t size, const Quantised &to) {
#pragma omp for schedule(static)
    for (int64_t t = 0; t < tokens; t++) quantise(size, t, to, [&](int64_t i) { return load(x + t * size + i); });
}

// Normalise (when the family does) and turn one head in place.
static inline void place(float *head, int64_t dim, const float *norm, const float *bias, float eps, const float *cosine, const float *sine) {
    if (bias) for (int64_t i = 0; i < dim; i++) head[i] += bias[i];
    if (norm) {
        const float inverse = inverse_rms(head, dim, eps);
        for (int64_t i = 0; i < dim; i++) head[i] *= inverse * norm[i];
    }
    const int64_t half_dim = dim / 2;
    for (int64_t i = 0; i < half_dim; i++) {
        const float a = head[i], b = head[i + half_dim];
        head[i] = a * cosine[i] - b * sine[i];
        head[i + half_dim] = b * cosine[i + half_dim] + a * sine[i + half_dim];
    }
}

// Turn queries and keys by their positions; put keys and values into their pages.
static void rotate_and_keep(const Shape &s, const Layer &layer, const Pass &p) {
    const int64_t width = (s.heads + 2 * s.kv_heads) * s.head_dim;
#pragma omp for schedule(static)
    for (int64_t t = 0; t < p.tokens; t++) {
        float *row = p.qkv + t * width;
        const float *cosine = p.cosine + t * s.head_dim, *sine = p.sine + t * s.head_dim;
        const float *bias = layer.qkv_bias;
        for (int64_t h = 0; h < s.heads + s.kv_heads; h++)
            place(row + h * s.head_dim, s.head_dim, h < s.heads ? layer.q_norm : layer.k_norm, bias ? bias + h * s.head_dim : nullptr, s.eps, cosine, sine);
        const int64_t page = p.tables[p.sequence[t] * p.table_width + p.position[t] / LANES], slot = p.position[t] % LANES;
        for (int64_t g = 0; g < s.kv_heads; g++) {
            const float *k = row + (s.heads + g) * s.head_dim, *v = row + (s.heads + s.kv_heads + g) * s.head_dim;
            const float *v_bias = bias ? bias + (s.heads + s.kv_heads + g) * s.head_dim : nullptr;
            half *keys = layer.keys + (page * s.kv_heads + g) * s.head_dim * LANES;
            half *values = layer.values + ((page * s.kv_heads + g) * LANES + slot) * s.head_dim;
            for (int64_t i = 0; i < s.head_dim; i++) {
                keys[i * LANES + slot] = to_half(k[i]);
                values[i] = to_half(v_bias ? v[i] + v_bias[i] : v[i]);
            }
        }
    }
}

// Ask for `size` numbers of a page that will be read soon: the processor cannot foresee which page comes next.
static inline void fetch_ahead(const half *page, int64_t size) {
    for (int64_t i = 0; i < size; i += 32) __builtin_prefetch(page + i);
}

// Softmax over the keys that a query may see, of scores [span]; what it may not see gets 0. Returns 1 / sum.
static inline float softmax(float *scores, int64_t from, int64_t to, int64_t span) {
    for (int64_t i = 0; i < from; i++) scores[i] = -std::numeric_limits<float>::infinity();
    for (int64_t i = to; i < span; i++) scores[i] = -std::numeric_limits<float>::infinity();
    f32x16 top = splat(-std::numeric_limits<float>::infinity());
    for (int64_t i = 0; i < span; i += LANES) {
        const f32x16 v = load(scores + i);
        top = v > top ? v : top;
    }
    const float most = largest(top);
    f32x16 sum{};
    for (int64_t i = 0; i < span; i += LANES) {
        const f32x16 e = exponential(load(scores + i) - most);
        store(scores + i, e);
    }
    for (int64_t i = 0; i < from; i++) scores[i] = 0.0f;
    for (int64_t i = to; i < span; i++) scores[i] = 0.0f;
    for (int64_t i = 0; i < span; i += LANES) sum += load(scores + i);
    return 1.0f / total(sum);
}

// Q queries of one sequence and one key/value head: `rows` tokens times the heads that share it.
template <int Q>
static inline void attend_tile(const Shape &s, const Layer &layer, const Pass &p, int64_t first, int64_t g, float *scores) {
    const int64_t shared = s.heads / s.kv_heads, rows = Q / shared, dim = s.head_dim;
    const int64_t width = (s.heads + 2 * s.kv_heads) * dim;
    const int32_t *table = p.tables + p.sequence[first] * p.table_width;
    const int64_t last = p.position[first + rows - 1];
    const int64_t begin = layer.window && p.position[first] + 1 > layer.window ? (p.position[first] + 1 - layer.window) / LANES : 0;
    const int64_t pages = last / LANES + 1, span = (pages - begin) * LANES;
    const float *query[Q];
    for (int q = 0; q < Q; q++) query[q] = p.qkv + (first + q / shared) * width + (g * shared + q % shared) * dim;
    constexpr int SIDE = Q > 6 ? 1 : Q > 3 ? 2 : 4;  // sums side by side hide each other's latency
    const half *page[SIDE];
    const int64_t per_page = LANES * dim;
    for (int64_t b = begin; b < pages; b += SIDE) {
        for (int n = 0; n < SIDE; n++) {  // past the end, the last page again
            page[n] = layer.keys + (int64_t(table[std::min(b + n, pages - 1)]) * s.kv_heads + g) * per_page;
            const int64_t next = b + SIDE + n;  // of the keys, or when these end, of the values: pages lie anywhere
            if (next < pages) fetch_ahead(layer.keys + (int64_t(table[next]) * s.kv_heads + g) * per_page, per_page);
            else if (begin + next - pages < pages) fetch_ahead(layer.values + (int64_t(table[begin + next - pages]) * s.kv_heads + g) * per_page, per_page);
        }
        f32x16 sum[SIDE][Q] = {};
        for (int64_t i = 0; i < dim; i++)
            for (int n = 0; n < SIDE; n++) {
                const f32x16 k = load_half(page[n] + i * LANES);
                for (int q = 0; q < Q; q++) sum[n][q] += k * query[q][i];
            }
        for (int n = 0; n < SIDE && b + n < pages; n++)
            for (int q = 0; q < Q; q++) store(scores + q * p.longest + (b + n - begin) * LANES, sum[n][q] * s.scale);
    }
    float inverse[Q];
    for (int q = 0; q < Q; q++) {
        const int64_t at = p.position[first + q / shared], from = layer.window && at + 1 > layer.window ? at + 1 - layer.window : 0;
        inverse[q] = softmax(scores + q * p.longest, from - begin * LANES, at + 1 - begin * LANES, span);
    }
    for (int64_t c = 0; c < dim; c += SIDE * LANES) {
        f32x16 sum[SIDE][Q] = {};
        const int64_t side = std::min<int64_t>(SIDE, (dim - c) / LANES);
        for (int64_t b = begin; b < pages; b++) {
            const half *values = layer.values + (int64_t(table[b]) * s.kv_heads + g) * per_page + c;
            if (c == 0 && b + SIDE < pages) fetch_ahead(layer.values + (int64_t(table[b + SIDE]) * s.kv_heads + g) * per_page, per_page);
            const float *weights = scores + (b - begin) * LANES;
            for (int64_t key = 0; key < LANES; key++, values += dim)
                for (int n = 0; n < SIDE; n++) {
                    const f32x16 v = load_half(values + (n < side ? n : 0) * LANES);
                    for (int q = 0; q < Q; q++) sum[n][q] += v * weights[q * p.longest + key];
                }
        }
        for (int q = 0; q < Q; q++) {
            float *to = p.mixed + (first + q / shared) * s.heads * dim + (g * shared + q % shared) * dim + c;
            for (int n = 0; n < side; n++) store(to + n * LANES, sum[n][q] * inverse[q]);
        }
    }
}

// A run of tokens of one sequence, by as many queries at a time as the registers hold.
static void attend_run(const Shape &s, const Layer &layer, const Pass &p, int64_t first, int64_t rows, int64_t g, float *scores) {
    const int64_t shared = s.heads / s.kv_heads;
    switch (shared * rows) {
#define CASE(Q) case Q: return attend_tile<Q>(s, layer, p, first, g, scores)
        CASE(1); CASE(2); CASE(3); CASE(4); CASE(5); CASE(6); CASE(7); CASE(8);
        CASE(9); CASE(10); CASE(11); CASE(12); CASE(13); CASE(14); CASE(15); CASE(16);
#undef CASE
    }
    for (int64_t t = 0; t < rows; t++) attend_run(s, layer, p, first + t, 1, g, scores);  // kernels.py saw to it that one fits
}

static void attend(const Shape &s, const Layer &layer, const Pass &p) {
#ifdef _OPENMP
    float *scores = p.scores + omp_get_thread_num() * MAX_QUERIES * p.longest;
#else
    float *scores = p.scores;
#endif
#pragma omp for schedule(dynamic, 1)
    for (int64_t job = 0; job < p.tiles * s.kv_heads; job++) {
        const int64_t run = p.tiles - 1 - job / s.kv_heads;  // the last have most to read: begin with them
        attend_run(s, layer, p, p.tile_starts[run], p.tile_starts[run + 1] - p.tile_starts[run], job % s.kv_heads, scores);
    }
}

static inline f32x16 silu(f32x16 x) {
    const f32x16 e = exponential(-size_of(x));  // e^-|x|, which cannot overflow
    return x * (x < 0 ? e : splat(1.0f)) / (e + 1.0f);
}

// silu(gate) · up of each token, quantised for the product that follows.
static void gate_quantise(const Shape &s, const Pass &p) {
#pragma omp for schedule(static)
    for (int64_t t = 0; t < p.tokens; t++) {
        const float *gate = p.gates + t * 2 * s.inner, *up = gate + s.inner;
        quantise(s.inner, t, p.quantised, [&](int64_t i) { return silu(load(gate + i)) * load(up + i); });
    }
}

static void add_bias(float *x, const float *bias, int64_t tokens, int64_t size) {
    if (!bias) return;
#pragma omp for schedule(static)
    for (int64_t t = 0; t < tokens; t++)
        for (int64_t i = 0; i < size; i++) x[t * size + i] += bias[i];
}

// --- what Python calls ---------------------------------------------------------------------------------------------

extern "C" {

// x += attention(norm(x)), x += mlp(norm(x)), for `count` layers.
void decoder_layers(const Shape *shape, const Layer *layers, int64_t count, const Pass *pass) {
    const Shape &s = *shape;
    const Pass &p = *pass;
    const int64_t width = (s.heads + 2 * s.kv_heads) * s.head_dim;
#pragma omp parallel num_threads(s.threads)
    for (int64_t number = 0; number < count; number++) {
        const Layer &layer = layers[number];
        norm_quantise(p.x, layer.attention_norm, p.tokens, s.hidden, s.eps, p.quantised);
        product(layer.qkv, p.quantised, p.tokens, p.qkv, width, false);
        rotate_and_keep(s, layer, p);
        attend(s, layer, p);
        quantise_rows(p.mixed, p.tokens, s.heads * s.head_dim, p.quantised);
        product(layer.output, p.quantised, p.tokens, p.x, s.hidden, true);
        add_bias(p.x, layer.output_bias, p.tokens, s.hidden);
        norm_quantise(p.x, layer.mlp_norm, p.tokens, s.hidden, s.eps, p.quantised);
        product(layer.gate_up, p.quantised, p.tokens, p.gates, 2 * s.inner, false);
        gate_quantise(s, p);
        product(layer.down, p.quantised, p.tokens, p.x, s.hidden, true);
    }
}

// out [tokens, matrix.rows] = x [tokens, matrix.columns] matrixᵀ.
void linear(const Matrix *matrix, const float *x, int64_t tokens, float *out, Quantised *room, int64_t threads) {
#pragma omp parallel num_threads(threads)
    {
        quantise_rows(x, tokens, matrix->columns, *room);
        product(*matrix, *room, tokens, out, matrix->rows, false);
    }
}

// out [tokens, columns] = rows `ids` of the matrix: an embedding.
void embed(const Matrix *matrix, const int64_t *ids, int64_t tokens, float *out) {
    const Matrix &m = *matrix;
    const int64_t groups = m.columns / GROUP;
    for (int64_t t = 0; t < tokens; t++) {
        const int64_t block = ids[t] / LANES, lane = ids[t] % LANES;
        for (int64_t c = 0; c < m.columns; c++) {
            const int64_t g = c / GROUP, in = c % GROUP, at = (block * groups + g) * LANES + lane;
            float value;
            if (m.kind == INT4_GROUP) {
                const uint8_t both = m.codes[(block * groups + g) * LANES * GROUP / 2 + in % 16 / 4 * 64 + lane * 4 + in % 4];
                value = from_half(((const half *)m.scales)[at]) * float(in < 16 ? both & 15 : both >> 4) + from_half(m.offsets[at]);
            } else {
                const float scale = m.kind == INT8_ROW ? ((const float *)m.scales)[ids[t]] : from_half(((const half *)m.scales)[at]);
                value = scale * float(int32_t(m.codes[(block * groups + g) * LANES * GROUP + in / 4 * 64 + lane * 4 + in % 4]) - 128);
            }
            out[t * m.columns + c] = value;
        }
    }
}

}  // extern "C"
