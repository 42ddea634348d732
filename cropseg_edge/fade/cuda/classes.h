// FADE for class scores, one thread an output pixel: up to probabilities, or up to labels.

#pragma once

#include "weights.h"

// Bits of the status word, as in contract.py.
constexpr int NON_FINITE = 1, SATURATED = 2, VARIES = 4;
constexpr float LOWEST = -3.0e38f;
constexpr int UNKNOWN = 255;

struct Pixel {
    int y, x;
    bool inside;
};

constexpr int PIXEL_TILE_WIDTH = 32, PIXEL_TILE_HEIGHT = THREADS / PIXEL_TILE_WIDTH;

CODE Pixel pixel_of(Block block, int thread, int height, int width) {
    const int y = block.y * PIXEL_TILE_HEIGHT + thread / PIXEL_TILE_WIDTH;
    const int x = block.x * PIXEL_TILE_WIDTH + thread % PIXEL_TILE_WIDTH;
    return {y, x, y < height && x < width};
}

// One pixel's window: its weights, and where its rows and columns lie in a plane.
struct PixelWindow {
    float weights[TAPS], gate;
    int rows[SIDE], columns[SIDE];
};

template <class T>
CODE PixelWindow window_of(const Inputs<T>& in, const Pixel& pixel) {
    PixelWindow window;
    const int u = pixel.y / 2, v = pixel.x / 2;
    pixel_weights(in, pixel.y, pixel.x, window.weights);
    window.gate = cell_gate(in, u, v);
#pragma unroll
    for (int i = 0; i < SIDE; ++i) {
        window.rows[i] = clamped(u + i - REACH, in.height) * in.width;
        window.columns[i] = clamped(v + i - REACH, in.width);
    }
    return window;
}

CODE int saturated(float value) {
    const float size = value < 0.0f ? -value : value;
    return size >= LARGEST_HALF && is_finite(value) ? SATURATED : 0;
}

// The upsampled score of class c; sets SATURATED in `faults` for the scores it came from.
template <class T>
CODE float score(const Inputs<T>& in, const Pixel& pixel, const PixelWindow& window, int c,
                 int& faults) {
    const long long plane = (long long)in.height * in.width;
    const T* map = in.logits + c * plane;
    float sum = 0.0f;
#pragma unroll
    for (int k = 0; k < TAPS; ++k) {
        const float value = to_float(map[window.rows[k / SIDE] + window.columns[k % SIDE]]);
        if (k == TAPS / 2) faults |= saturated(value);
        sum += window.weights[k] * value;
    }
    if (!in.guide) return sum;
    const long long at = (long long)pixel.y * 2 * in.width + pixel.x;
    const float guide = to_float(in.guide[4 * c * plane + at]);
    faults |= saturated(guide);
    return window.gate * guide + (1.0f - window.gate) * sum;
}

// Probabilities float [C][2h][2w] in planes. One pass over the classes leaves the scores there and
// finds their softmax's denominator as it goes, a second one divides.
template <class T>
CODE void class_probabilities(Block block, const Inputs<T>& in, float* out, int* status) {
    struct Nothing {};
    Threads<Nothing> threads;
    each_thread(threads, [&](int thread, Nothing&) {
        const Pixel pixel = pixel_of(block, thread, 2 * in.height, 2 * in.width);
        if (!pixel.inside) return;
        const PixelWindow window = window_of(in, pixel);
        const long long plane = 4LL * in.height * in.width;
        float* own = out + (long long)pixel.y * 2 * in.width + pixel.x;
        float highest = LOWEST, total = 0.0f, poison = 0.0f;
        int faults = 0;
#pragma unroll 1
        for (int c = 0; c < in.channels; ++c) {
            const float value = score(in, pixel, window, c, faults);
            own[c * plane] = value;
            poison += value * 0.0f;
            const float before = highest;
            highest = value > highest ? value : highest;
            total *= power_of_2((before - highest) * LOG2_E);
            total += power_of_2((value - highest) * LOG2_E);
        }
        const float scale = 1.0f / total + poison;
        if (!is_finite(scale)) faults |= NON_FINITE;
#pragma unroll 1
        for (int c = 0; c < in.channels; ++c)
            own[c * plane] = power_of_2((own[c * plane] - highest) * LOG2_E) * scale;
        if (faults) set_bits(status, faults);
    });
}

// Label and confidence by the rule of fade.stage.decode: class 0 where it is more probable than all
// others together, else the most probable other, the lowest on a tie. Nothing else is written.
template <class T>
CODE void class_labels(Block block, const Inputs<T>& in, unsigned char* labels,
                       unsigned char* confidence, int* status) {
    struct Nothing {};
    Threads<Nothing> threads;
    each_thread(threads, [&](int thread, Nothing&) {
        const Pixel pixel = pixel_of(block, thread, 2 * in.height, 2 * in.width);
        if (!pixel.inside) return;
        const PixelWindow window = window_of(in, pixel);
        float zero = 0.0f, best = LOWEST, others = 0.0f, poison = 0.0f;
        int faults = 0, label = 1;
#pragma unroll 1
        for (int c = 0; c < in.channels; ++c) {
            const float value = score(in, pixel, window, c, faults), before = best;
            poison += value * 0.0f;
            if (c == 0) {
                zero = value;
                continue;
            }
            label = value > best ? c : label;
            best = value > best ? value : best;
            others *= power_of_2((before - best) * LOG2_E);
            others += power_of_2((value - best) * LOG2_E);
        }
        const float highest = zero > best ? zero : best;
        const float first = power_of_2((zero - highest) * LOG2_E);
        const float top = power_of_2((best - highest) * LOG2_E);
        others *= top;
        const bool background = first > others, good = is_finite(poison);
        const float chosen = (background ? first : top) / (first + others);
        const long long at = (long long)pixel.y * 2 * in.width + pixel.x;
        labels[at] = (unsigned char)(!good ? UNKNOWN : background ? 0 : label);
        confidence[at] = (unsigned char)(good ? (int)(chosen * 255.0f + 0.5f) : 0);
        if (!good) faults |= NON_FINITE;
        if (faults) set_bits(status, faults);
    });
}
