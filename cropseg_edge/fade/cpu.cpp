// FADE upsampling (x2, 5x5) for the CPU; plain C functions, loaded with ctypes.
//
// Equations: Lu et al., ECCV 2022 (arXiv 2207.10392), as in fade/reference.py. The loops run over x
// in blocks that stay in the L1 cache, and are written so that the compiler turns them into vector
// code for each processor family. All arrays are float32, contiguous, [channels][rows][columns].
// Where a non-finite number enters a pixel's result, the result is NaN, never a class.

#include "approximate.h"
#include "processors.h"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <vector>

namespace {

constexpr int TAPS = 25, REACH = 2, BLOCK = 64;
constexpr int PAD = 2 * REACH;  // columns of zeros on either side of an upsampled row

INLINE float sigmoid(float x) {
    const float e = exp_negative(x < 0 ? x : -x);
    return (x < 0 ? e : 1.0f) / (1.0f + e);
}

// Nearest x2 of one row.
INLINE void widen(const float* row, int width, float* out) {
    for (int x = 0; x < width; ++x) out[2 * x] = out[2 * x + 1] = row[x];
}

struct Inputs {
    const float *logits, *kernels_high, *kernels_low, *guide, *gate;
    int channels, height, width;  // of the low-resolution maps
    int side;                     // of a pixel in the guide's sub-pixels, 1 or 2
};

// Columns [x0, x0 + n) of upsampled row y: result[(q * channels + c) * BLOCK + x] for sub-pixel q of
// each pixel, row by row. `rows` holds the 5 upsampled rows of
// every channel, [5][channels][2 * width + 2 * PAD]; `low` the upsampled kernel rows, [25][2 * width].
INLINE void block_of_row(const Inputs& in, const float* rows, const float* low, const float* gate,
                         int y, int x0, int n, float* result) {
    const int out_width = 2 * in.width;
    const size_t plane = (size_t)4 * in.height * in.width, at = (size_t)y * out_width + x0;
    const size_t row_size = (size_t)out_width + 2 * PAD;
    float weight[TAPS][BLOCK], highest[BLOCK], total[BLOCK], poison[BLOCK];
    int32_t bad[BLOCK];
    for (int x = 0; x < n; ++x) highest[x] = -3.0e38f, total[x] = 0.0f, bad[x] = 0;
    for (int k = 0; k < TAPS; ++k) {
        const float *high_row = in.kernels_high + k * plane + at, *low_row = low + k * out_width + x0;
        for (int x = 0; x < n; ++x) {
            const float value = high_row[x] + low_row[x];
            weight[k][x] = value;
            bad[x] |= non_finite(value);
            highest[x] = value > highest[x] ? value : highest[x];
        }
    }
    for (int k = 0; k < TAPS; ++k)
        for (int x = 0; x < n; ++x) {
            const float value = exp_negative(weight[k][x] - highest[x]);
            weight[k][x] = value;
            total[x] += value;
        }
    for (int x = 0; x < n; ++x) total[x] = 1.0f / total[x], poison[x] = as_float(bad[x]);
    for (int c = 0; c < in.channels; ++c) {
        float sum[BLOCK];
        for (int x = 0; x < n; ++x) sum[x] = 0.0f;
        for (int r = 0; r < 5; ++r) {
            const float* row = rows + ((size_t)r * in.channels + c) * row_size + x0;
            const float(*w)[BLOCK] = weight + 5 * r;
            for (int x = 0; x < n; ++x)
                sum[x] += w[0][x] * row[x] + w[1][x] * row[x + 2] + w[2][x] * row[x + 4] +
                          w[3][x] * row[x + 6] + w[4][x] * row[x + 8];
        }
        const int subpixels = in.side * in.side;
        for (int q = 0; q < subpixels; ++q) {
            float* out = result + ((size_t)q * in.channels + c) * BLOCK;
            if (in.guide) {
                const float* guide = in.guide + ((size_t)c * subpixels + q) * plane + at;
                for (int x = 0; x < n; ++x) {
                    const float g = gate[x0 + x];
                    out[x] = g * guide[x] + (1.0f - g) * (sum[x] * total[x]) + poison[x];
                }
            } else {
                for (int x = 0; x < n; ++x) out[x] = sum[x] * total[x] + poison[x];
            }
        }
    }
}

// In place: result[c][x] becomes the softmax over c; NaN for every class of a pixel that has one
// non-finite value.
INLINE void softmax_block(float* result, int channels, int n) {
    if (channels == 3) {  // in one loop, in registers: half of the time
        float *a = result, *b = a + BLOCK, *c = b + BLOCK;
        for (int x = 0; x < n; ++x) {
            const float larger = a[x] > b[x] ? a[x] : b[x], top = c[x] > larger ? c[x] : larger;
            const int32_t bad = non_finite(a[x]) | non_finite(b[x]) | non_finite(c[x]);
            const float p = exp_negative(a[x] - top), q = exp_negative(b[x] - top),
                        r = exp_negative(c[x] - top), scale = 1.0f / (p + q + r) + as_float(bad);
            a[x] = p * scale, b[x] = q * scale, c[x] = r * scale;
        }
        return;
    }
    float highest[BLOCK], total[BLOCK];
    int32_t bad[BLOCK];
    for (int x = 0; x < n; ++x) highest[x] = -3.0e38f, total[x] = 0.0f, bad[x] = 0;
    for (int c = 0; c < channels; ++c)
        for (int x = 0; x < n; ++x) {
            const float value = result[c * BLOCK + x];
            bad[x] |= non_finite(value);
            highest[x] = value > highest[x] ? value : highest[x];
        }
    for (int c = 0; c < channels; ++c)
        for (int x = 0; x < n; ++x) {
            const float value = exp_negative(result[c * BLOCK + x] - highest[x]);
            result[c * BLOCK + x] = value;
            total[x] += value;
        }
    for (int x = 0; x < n; ++x) total[x] = 1.0f / total[x] + as_float(bad[x]);
    for (int c = 0; c < channels; ++c)
        for (int x = 0; x < n; ++x) result[c * BLOCK + x] *= total[x];
}

// The five upsampled source rows around low-resolution row u, zeros outside of the map.
INLINE void gather_rows(const Inputs& in, int u, float* rows) {
    const size_t row_size = (size_t)2 * in.width + 2 * PAD;
    for (int r = 0; r < 5; ++r) {
        const int v = u + r - REACH;
        if (v < 0 || v >= in.height) {
            std::memset(rows + r * in.channels * row_size, 0, in.channels * row_size * sizeof(float));
            continue;
        }
        for (int c = 0; c < in.channels; ++c)
            widen(in.logits + ((size_t)c * in.height + v) * in.width, in.width,
                  rows + (r * in.channels + c) * row_size + PAD);
    }
}

// Columns [x0, x0 + n) of the pixels of upsampled row y to where their sub-pixels lie in `out`.
INLINE void put_block(const Inputs& in, const float* result, int y, int x0, int n, float* out) {
    const size_t width = (size_t)2 * in.width * in.side, plane = 2 * in.height * in.side * width;
    for (int c = 0; c < in.channels; ++c)
        for (int i = 0; i < in.side; ++i) {
            float* to = out + c * plane + ((size_t)y * in.side + i) * width + (size_t)x0 * in.side;
            const float* from = result + ((size_t)i * in.side * in.channels + c) * BLOCK;
            if (in.side == 1) {
                std::memcpy(to, from, n * sizeof(float));
                continue;
            }
            const float* second = from + (size_t)in.channels * BLOCK;
            for (int x = 0; x < n; ++x) to[2 * x] = from[x], to[2 * x + 1] = second[x];
        }
}

INLINE void upsample_loops(const Inputs& in, bool probabilities, int first, int last, float* scratch,
                           float* out) {
    const int out_width = 2 * in.width;
    float* rows = scratch;
    float* low = rows + (size_t)5 * in.channels * (out_width + 2 * PAD);
    float* gate = low + (size_t)TAPS * out_width;
    float* result = gate + out_width;
    for (int u = first; u < last; ++u) {
        gather_rows(in, u, rows);
        for (int k = 0; k < TAPS; ++k)
            widen(in.kernels_low + ((size_t)k * in.height + u) * in.width, in.width,
                  low + (size_t)k * out_width);
        if (in.gate) {
            widen(in.gate + (size_t)u * in.width, in.width, gate);
            for (int x = 0; x < out_width; ++x)
                gate[x] = sigmoid(gate[x]) + as_float(non_finite(gate[x]));
        }
        for (int y = 2 * u; y < 2 * u + 2; ++y)
            for (int x0 = 0; x0 < out_width; x0 += BLOCK) {
                const int n = out_width - x0 < BLOCK ? out_width - x0 : BLOCK;
                block_of_row(in, rows, low, gate, y, x0, n, result);
                if (probabilities)
                    for (int q = 0; q < in.side * in.side; ++q)
                        softmax_block(result + (size_t)q * in.channels * BLOCK, in.channels, n);
                put_block(in, result, y, x0, n, out);
            }
    }
}

PER_PROCESSOR(upsample, upsample_loops,
              (const Inputs& in, bool probabilities, int first, int last, float* scratch, float* out),
              (in, probabilities, first, last, scratch, out))

}  // namespace

extern "C" {

int cropseg_abi() { return 5; }

// The output rows of the low-resolution rows [first, last); parts may run in threads of their own.
// 0 when done, 1 when memory ran out. `guide` and `gate` are both null in the ungated form; `side` is
// then 1, otherwise the guide has side * side sub-pixels for each pixel and class.
int cropseg_fade(const float* logits, const float* kernels_high, const float* kernels_low,
                 const float* guide, const float* gate, int channels, int height, int width,
                 int side, int probabilities, int first, int last, float* out) {
    thread_local std::vector<float> scratch;
    const Inputs in{logits, kernels_high, kernels_low, guide, gate, channels, height, width, side};
    const size_t row_size = (size_t)2 * width + 2 * PAD;
    try {
        scratch.assign(row_size * (5 * (size_t)channels + TAPS + 1) +
                           (size_t)channels * side * side * BLOCK, 0);
    } catch (const std::bad_alloc&) {
        return 1;
    }
    upsample(in, probabilities != 0, first, last, scratch.data(), out);
    return 0;
}
}
