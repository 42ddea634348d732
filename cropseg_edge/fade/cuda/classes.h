// FADE for class scores, one thread a pixel at twice the logits' size: up to probabilities, or up to
// labels, of the pixel or of the S x S sub-pixels that the guide divides it into.

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

// The reassembled score of class c; sets SATURATED in `faults` for the scores it came from.
template <class T>
CODE float reassembled(const Inputs<T>& in, const PixelWindow& window, int c, int& faults) {
    const long long plane = (long long)in.height * in.width;
    const T* map = in.logits + c * plane;
    float sum = 0.0f;
#pragma unroll
    for (int k = 0; k < TAPS; ++k) {
        const float value = to_float(map[window.rows[k / SIDE] + window.columns[k % SIDE]]);
        if (k == TAPS / 2) faults |= saturated(value);
        sum += window.weights[k] * value;
    }
    return sum;
}

// Values of a pixel's S x S sub-pixels, row by row.
template <class Value, int S>
using Subpixels = Pack<Value, S>[S];

// The scores of class c; sets SATURATED likewise.
template <class T, int S>
CODE void blend(const Inputs<T>& in, const Pixel& pixel, const PixelWindow& window, int c,
                Subpixels<float, S>& scores, int& faults) {
    const float sum = reassembled(in, window, c, faults);
    const long long plane = (long long)in.height * in.width;
    const long long at = (long long)pixel.y * 2 * in.width + pixel.x;
#pragma unroll
    for (int i = 0; i < S * S; ++i) {
        float& score = scores[i / S].values[i % S];
        score = sum;
        if (!in.guide) continue;
        const float guide = to_float(in.guide[4 * (c * S * S + i) * plane + at]);
        faults |= saturated(guide);
        score = window.gate * guide + (1.0f - window.gate) * sum;
    }
}

// A pixel's sub-pixels in a map of them, or what they are there: S rows of S neighbours.
template <class Value, int S>
CODE void put(const Subpixels<Value, S>& values, Value* to, int step) {
#pragma unroll
    for (int i = 0; i < S; ++i) *(Pack<Value, S>*)(to + (long long)i * step) = values[i];
}

template <class Value, int S>
CODE void get(Subpixels<Value, S>& values, const Value* from, int step) {
#pragma unroll
    for (int i = 0; i < S; ++i) values[i] = *(const Pack<Value, S>*)(from + (long long)i * step);
}

// A softmax's parts while its scores come one by one.
struct Running {
    float highest = LOWEST, total = 0.0f, poison = 0.0f;
};

CODE void include(Running& running, float score) {
    const float before = running.highest;
    running.poison += score * 0.0f;
    running.highest = score > before ? score : before;
    running.total *= power_of_2((before - running.highest) * LOG2_E);
    running.total += power_of_2((score - running.highest) * LOG2_E);
}

// One pass over the classes finds their scores and the softmax's denominator as it goes, a second
// one divides. In between the scores of C classes are in registers; those of any number (C = 0)
// are in `out`.
template <class T, int S, int C>
CODE void pixel_probabilities(const Inputs<T>& in, const Pixel& pixel, float* out, int* status) {
    constexpr int UNROLLED = C ? C : 1;
    const PixelWindow window = window_of(in, pixel);
    const long long plane = 4LL * S * S * in.height * in.width;
    const int channels = C ? C : in.channels, step = 2 * S * in.width;
    float* own = out + (long long)S * pixel.y * step + S * pixel.x;
    Subpixels<float, S> held[UNROLLED];
    Running running[S * S];
    int faults = 0;
#pragma unroll UNROLLED
    for (int c = 0; c < channels; ++c) {
        auto& scores = held[C ? c : 0];
        blend<T, S>(in, pixel, window, c, scores, faults);
#pragma unroll
        for (int i = 0; i < S * S; ++i) include(running[i], scores[i / S].values[i % S]);
        if (!C) put<float, S>(scores, own + c * plane, step);
    }
    float scale[S * S];
#pragma unroll
    for (int i = 0; i < S * S; ++i) {
        scale[i] = 1.0f / running[i].total + running[i].poison;
        if (!is_finite(scale[i])) faults |= NON_FINITE;
    }
#pragma unroll UNROLLED
    for (int c = 0; c < channels; ++c) {
        auto& scores = held[C ? c : 0];
        if (!C) get<float, S>(scores, own + c * plane, step);
#pragma unroll
        for (int i = 0; i < S * S; ++i) {
            float& score = scores[i / S].values[i % S];
            score = power_of_2((score - running[i].highest) * LOG2_E) * scale[i];
        }
        put<float, S>(scores, own + c * plane, step);
    }
    if (faults) set_bits(status, faults);
}

// Probabilities float [channels][2 * S * h][2 * S * w] in planes.
template <class T, int S>
CODE void class_probabilities(Block block, const Inputs<T>& in, float* out, int* status) {
    struct Nothing {};
    Threads<Nothing> threads;
    each_thread(threads, [&](int thread, Nothing&) {
        const Pixel pixel = pixel_of(block, thread, 2 * in.height, 2 * in.width);
        if (!pixel.inside) return;
        if (in.channels == 3)
            pixel_probabilities<T, S, 3>(in, pixel, out, status);
        else
            pixel_probabilities<T, S, 0>(in, pixel, out, status);
    });
}

// What is known of a label while the scores come one by one.
struct Choice {
    float zero = 0.0f, best = LOWEST, others = 0.0f, poison = 0.0f;
    int label = 1;
};

CODE void consider(Choice& choice, int c, float score) {
    const float before = choice.best;
    const bool background = c == 0, better = score > before && !background;
    choice.poison += score * 0.0f;
    choice.zero = background ? score : choice.zero;
    choice.label = better ? c : choice.label;
    choice.best = better ? score : before;
    choice.others *= power_of_2((before - choice.best) * LOG2_E);
    choice.others += background ? 0.0f : power_of_2((score - choice.best) * LOG2_E);
}

// Label and confidence by the rule of fade.stage.decode: class 0 where it is more probable than all
// others together, else the most probable other, the lowest on a tie. False where there is none.
CODE bool decide(const Choice& choice, unsigned char& label, unsigned char& confidence) {
    const float highest = choice.zero > choice.best ? choice.zero : choice.best;
    const float first = power_of_2((choice.zero - highest) * LOG2_E);
    const float top = power_of_2((choice.best - highest) * LOG2_E);
    const float others = choice.others * top;
    const bool background = first > others, good = is_finite(choice.poison);
    const float chosen = (background ? first : top) / (first + others);
    label = (unsigned char)(!good ? UNKNOWN : background ? 0 : choice.label);
    confidence = (unsigned char)(good ? (int)(chosen * 255.0f + 0.5f) : 0);
    return good;
}

// Labels and confidence [2 * S * h][2 * S * w]; nothing else is written.
template <class T, int S>
CODE void class_labels(Block block, const Inputs<T>& in, unsigned char* labels,
                       unsigned char* confidence, int* status) {
    struct Nothing {};
    Threads<Nothing> threads;
    each_thread(threads, [&](int thread, Nothing&) {
        const Pixel pixel = pixel_of(block, thread, 2 * in.height, 2 * in.width);
        if (!pixel.inside) return;
        const PixelWindow window = window_of(in, pixel);
        Choice choices[S * S];
        int faults = 0;
#pragma unroll 1
        for (int c = 0; c < in.channels; ++c) {
            Subpixels<float, S> scores;
            blend<T, S>(in, pixel, window, c, scores, faults);
#pragma unroll
            for (int i = 0; i < S * S; ++i) consider(choices[i], c, scores[i / S].values[i % S]);
        }
        Subpixels<unsigned char, S> classes, levels;
#pragma unroll
        for (int i = 0; i < S * S; ++i)
            if (!decide(choices[i], classes[i / S].values[i % S], levels[i / S].values[i % S]))
                faults |= NON_FINITE;
        const int step = 2 * S * in.width;
        const long long at = (long long)S * pixel.y * step + S * pixel.x;
        put<unsigned char, S>(classes, labels + at, step);
        put<unsigned char, S>(levels, confidence + at, step);
        if (faults) set_bits(status, faults);
    });
}
