// The 25 reassembly weights of one output pixel, and the gate of a low-resolution cell.

#pragma once

#include "device.h"

constexpr int TAPS = 25, SIDE = 5, REACH = 2;
constexpr float LOG2_E = 1.44269504f, LARGEST_HALF = 65504.0f;

// Addresses and sizes as in contract.py: maps of height x width, kernels and gate in planes.
template <class T>
struct Inputs {
    const T *logits, *kernels_high, *kernels_low, *guide, *gate;
    int channels, height, width;
};

// Softmax of 25 kernel logits in place. NaN in every weight if one of them is not finite: an
// infinity or a NaN times zero is NaN, which then sits in every product.
CODE void softmax(float (&logits)[TAPS]) {
    float highest = logits[0], total = 0.0f, poison = 0.0f;
#pragma unroll
    for (int k = 0; k < TAPS; ++k) {
        highest = logits[k] > highest ? logits[k] : highest;
        poison += logits[k] * 0.0f;
    }
#pragma unroll
    for (int k = 0; k < TAPS; ++k) {
        logits[k] = power_of_2((logits[k] - highest) * LOG2_E);
        total += logits[k];
    }
    const float scale = 1.0f / total + poison;
#pragma unroll
    for (int k = 0; k < TAPS; ++k) logits[k] *= scale;
}

CODE int clamped(int i, int size) { return i < 0 ? 0 : i < size ? i : size - 1; }

// Softmax of the output pixel (y, x): over the sum of the high-resolution kernel logits and of those
// of the cell that the pixel lies in (the semi-shift convolution's two halves).
template <class T>
CODE void pixel_softmax(const Inputs<T>& in, int y, int x, float (&weights)[TAPS]) {
    const long long low_plane = (long long)in.height * in.width, high_plane = 4 * low_plane;
    const T* high = in.kernels_high + (long long)y * 2 * in.width + x;
    const T* low = in.kernels_low + (long long)(y / 2) * in.width + x / 2;
#pragma unroll
    for (int k = 0; k < TAPS; ++k)
        weights[k] = to_float(high[k * high_plane]) + to_float(low[k * low_plane]);
    softmax(weights);
}

// The same, and zero beyond the map's border, so that a tap may read the border instead, which is
// clamped and lies in the window anyway.
template <class T>
CODE void pixel_weights(const Inputs<T>& in, int y, int x, float (&weights)[TAPS]) {
    pixel_softmax(in, y, x, weights);
#pragma unroll
    for (int i = 0; i < SIDE; ++i) {
        const int u = y / 2 + i - REACH, v = x / 2 + i - REACH;
#pragma unroll
        for (int j = 0; j < SIDE; ++j) {  // times zero: a NaN stays
            weights[i * SIDE + j] *= u >= 0 && u < in.height ? 1.0f : 0.0f;
            weights[j * SIDE + i] *= v >= 0 && v < in.width ? 1.0f : 0.0f;
        }
    }
}

// Share of the guide in the cell (u, v): 0 without a gate, NaN where its logit is not finite.
template <class T>
CODE float cell_gate(const Inputs<T>& in, int u, int v) {
    if (!in.gate) return 0.0f;
    const float logit = to_float(in.gate[(long long)u * in.width + v]);
    const float small = power_of_2((logit < 0.0f ? logit : -logit) * LOG2_E);
    return (logit < 0.0f ? small : 1.0f) / (1.0f + small) + logit * 0.0f;
}
