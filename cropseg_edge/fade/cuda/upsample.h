// FADE for maps of many channels: semi-shift sum, softmax, reassembly, gate and blend in one pass.
//
// Both layouts read each input once from memory but for the borders of tiles, and write the output
// once. A cell of the low-resolution map makes four output pixels from one 5 x 5 window.

#pragma once

#include "weights.h"

// Planes: a thread owns one cell and keeps its four times 25 weights in registers. The block's
// window of two channels at a time lies in shared memory as floats, side by side, so that one load
// feeds eight multiply-adds.
namespace planes {

constexpr int WIDTH = 32, HEIGHT = 4, PAIRS = 4;  // cells of a tile; channel pairs at a time
constexpr int WINDOW_WIDTH = WIDTH + 2 * REACH, WINDOW_HEIGHT = HEIGHT + 2 * REACH;
constexpr int WINDOW = WINDOW_WIDTH * WINDOW_HEIGHT, ROUNDS = (WINDOW + THREADS - 1) / THREADS;

struct State {
    float weights[4][TAPS], gate;
    int u, v, source[ROUNDS];  // the cell; what it loads of each window, -1 for nothing
};

using Window = Pack<float, 2>[PAIRS][WINDOW];

template <class T>
CODE void begin(const Inputs<T>& in, Block block, int thread, State& state) {
    const int u = block.y * HEIGHT + thread / WIDTH, v = block.x * WIDTH + thread % WIDTH;
    const bool inside = u < in.height && v < in.width;
    state.u = inside ? u : -1;
    state.v = v;
#pragma unroll
    for (int round = 0; round < ROUNDS; ++round) {
        const int at = thread + round * THREADS;
        const int y = block.y * HEIGHT - REACH + at / WINDOW_WIDTH;
        const int x = block.x * WIDTH - REACH + at % WINDOW_WIDTH;
        const bool some = at < WINDOW && y >= 0 && y < in.height && x >= 0 && x < in.width;
        state.source[round] = some ? y * in.width + x : -1;
    }
    if (!inside) return;
    state.gate = cell_gate(in, u, v);
    const long long low_plane = (long long)in.height * in.width;
#pragma unroll
    for (int row = 0; row < 2; ++row) {
        const long long at = (long long)(2 * u + row) * 2 * in.width + 2 * v;
#pragma unroll
        for (int k = 0; k < TAPS; ++k) {
            const auto pair = *(const Pack<T, 2>*)(in.kernels_high + 4 * low_plane * k + at);
            const float low = to_float(in.kernels_low[low_plane * k + (long long)u * in.width + v]);
            state.weights[2 * row][k] = to_float(pair.values[0]) + low;
            state.weights[2 * row + 1][k] = to_float(pair.values[1]) + low;
        }
        softmax(state.weights[2 * row]);
        softmax(state.weights[2 * row + 1]);
    }
}

template <class T>
CODE void load(const Inputs<T>& in, int channel, int thread, const State& state, Window& window) {
    const long long plane = (long long)in.height * in.width;
#pragma unroll
    for (int round = 0; round < ROUNDS; ++round) {
        const int at = thread + round * THREADS, source = state.source[round];
        if (at >= WINDOW) continue;
#pragma unroll
        for (int pair = 0; pair < PAIRS; ++pair) {
            Pack<float, 2> both{};
#pragma unroll
            for (int i = 0; i < 2; ++i) {
                const int c = channel + 2 * pair + i;
                if (source >= 0 && c < in.channels)
                    both.values[i] = to_float(in.logits[c * plane + source]);
            }
            window[pair][at] = both;
        }
    }
}

// The four pixels of the thread's cell, of S x S sub-pixels each, in two channels from `channel` on.
template <class T, int S>
CODE void emit(const Inputs<T>& in, int channel, int thread, const State& state,
               const Pack<float, 2>* window, T* out) {
    float sum[4][2] = {};
    const auto* corner = window + thread / WIDTH * WINDOW_WIDTH + thread % WIDTH;
#pragma unroll
    for (int k = 0; k < TAPS; ++k) {
        const auto both = corner[k / SIDE * WINDOW_WIDTH + k % SIDE];
#pragma unroll
        for (int sub = 0; sub < 4; ++sub) {
            sum[sub][0] += state.weights[sub][k] * both.values[0];
            sum[sub][1] += state.weights[sub][k] * both.values[1];
        }
    }
    const float g = state.gate;
    const long long plane = 4LL * in.height * in.width;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
        if (channel + i >= in.channels) return;
        const long long first = (channel + i) * S * S * plane;
#pragma unroll
        for (int row = 0; row < 2; ++row) {
            const long long y = 2 * state.u + row;
#pragma unroll 1  // or there are too few registers
            for (int above = 0; above < S; ++above) {
                Pack<T, 2 * S> line;
#pragma unroll
                for (int before = 0; before < S; ++before) {
                    float left = sum[2 * row][i], right = sum[2 * row + 1][i];
                    if (in.guide) {
                        const long long at = y * 2 * in.width + 2 * state.v;
                        const auto guide = *(const Pack<T, 2>*)(
                            in.guide + first + (above * S + before) * plane + at);
                        left = g * to_float(guide.values[0]) + (1.0f - g) * left;
                        right = g * to_float(guide.values[1]) + (1.0f - g) * right;
                    }
                    store(&line.values[before], left);
                    store(&line.values[S + before], right);
                }
                const long long at = (y * S + above) * 2 * in.width + 2 * state.v;
                *(Pack<T, 2 * S>*)(out + first + at * S) = line;
            }
        }
    }
}

// Channels block.z * chunk and on, `chunk` of them (a multiple of 8).
template <class T, int S>
CODE void upsample(Block block, const Inputs<T>& in, T* out, int chunk) {
    SHARED Window window;
    Threads<State> threads;
    each_thread(threads, [&](int thread, State& state) { begin(in, block, thread, state); });
    const int first = block.z * chunk;
    const int last = first + chunk < in.channels ? first + chunk : in.channels;
    for (int channel = first; channel < last; channel += 2 * PAIRS) {
        each_thread(threads, [&](int thread, State& state) {
            load(in, channel, thread, state, window);
        });
        each_thread(threads, [&](int thread, State& state) {
            if (state.u < 0) return;
#pragma unroll 1
            for (int pair = 0; pair < PAIRS && channel + 2 * pair < in.channels; ++pair)
                emit<T, S>(in, channel + 2 * pair, thread, state, window[pair], out);
        });
    }
}

}  // namespace planes

// Channels last: the block's weights lie in shared memory, four pixels of a tap side by side; a
// thread takes 16 bytes of channels of one cell. Windows come through the L1 cache, which the
// neighbouring cells of the tile share.
namespace channels_last {

constexpr int WIDTH = 8, HEIGHT = 4, CELLS = WIDTH * HEIGHT;  // 4 * CELLS == THREADS

struct Nothing {};

struct Weights {
    Pack<float, 4> taps[TAPS][CELLS];
    float gate[CELLS];
};

template <class T>
CODE void begin(const Inputs<T>& in, Block block, int thread, Weights& weights) {
    const int column = thread % (2 * WIDTH), row = thread / (2 * WIDTH);
    const int y = block.y * 2 * HEIGHT + row, x = block.x * 2 * WIDTH + column;
    const int cell = row / 2 * WIDTH + column / 2, sub = row % 2 * 2 + column % 2;
    if (y >= 2 * in.height || x >= 2 * in.width) return;
    float own[TAPS];
    pixel_weights(in, y, x, own);
#pragma unroll
    for (int k = 0; k < TAPS; ++k) weights.taps[k][cell].values[sub] = own[k];
    if (sub == 0) weights.gate[cell] = cell_gate(in, y / 2, x / 2);
}

// N channels from `channel` on of the four pixels of cell (u, v), of S x S sub-pixels each.
template <class T, int S, int N>
CODE void emit(const Inputs<T>& in, int u, int v, int channel, const Pack<float, 4>* weights,
               float g, T* out) {
    using Values = Pack<T, N>;
    float sum[4][N] = {};
#pragma unroll 1
    for (int r = 0; r < SIDE; ++r) {
        const long long start = (long long)clamped(u + r - REACH, in.height) * in.width;
        const T* row = in.logits + start * in.channels + channel;
#pragma unroll
        for (int s = 0; s < SIDE; ++s) {
            const int x = clamped(v + s - REACH, in.width);
            const auto values = *(const Values*)(row + x * in.channels);
            const auto weight = weights[(r * SIDE + s) * CELLS];
#pragma unroll
            for (int i = 0; i < N; ++i)
#pragma unroll
                for (int sub = 0; sub < 4; ++sub)
                    sum[sub][i] += weight.values[sub] * to_float(values.values[i]);
        }
    }
#pragma unroll
    for (int sub = 0; sub < 4; ++sub) {
        const long long y = 2 * u + sub / 2, x = 2 * v + sub % 2;
        Values guide[S * S];  // of every channel all sub-pixels, row by row
        if (in.guide) {
            const long long at = ((y * 2 * in.width + x) * in.channels + channel) * S * S;
#pragma unroll
            for (int i = 0; i < S * S; ++i) guide[i] = *(const Values*)(in.guide + at + i * N);
        }
#pragma unroll
        for (int part = 0; part < S * S; ++part) {
            Values result;
#pragma unroll
            for (int i = 0; i < N; ++i) {
                const int k = i * S * S + part;
                float value = sum[sub][i];
                if (in.guide) value = g * to_float(guide[k / N].values[k % N]) + (1.0f - g) * value;
                store(&result.values[i], value);
            }
            const long long pixel = (y * S + part / S) * 2 * S * in.width + x * S + part % S;
            *(Values*)(out + pixel * in.channels + channel) = result;
        }
    }
}

// Channels first to last - 1 of the block's cells, N at a time; both are multiples of N.
template <class T, int S, int N>
CODE void emit_all(Block block, const Inputs<T>& in, int thread, const Weights& weights, int first,
                   int last, T* out) {
    const int groups = (last - first) / N;
#pragma unroll 1
    for (int item = thread; item < CELLS * groups; item += THREADS) {
        const int cell = item / groups, channel = first + item % groups * N;
        const int u = block.y * HEIGHT + cell / WIDTH, v = block.x * WIDTH + cell % WIDTH;
        if (u < in.height && v < in.width)
            emit<T, S, N>(in, u, v, channel, &weights.taps[0][cell], weights.gate[cell], out);
    }
}

template <class T, int S>
CODE void upsample(Block block, const Inputs<T>& in, T* out, int chunk) {
    constexpr int N = 16 / sizeof(T);
    SHARED Weights weights;
    Threads<Nothing> threads;
    each_thread(threads, [&](int thread, Nothing&) { begin(in, block, thread, weights); });
    const int first = block.z * chunk;
    const int last = first + chunk < in.channels ? first + chunk : in.channels;
    each_thread(threads, [&](int thread, Nothing&) {
        if (in.channels % N == 0)
            emit_all<T, S, N>(block, in, thread, weights, first, last, out);
        else
            emit_all<T, S, 1>(block, in, thread, weights, first, last, out);
    });
}

}  // namespace channels_last
