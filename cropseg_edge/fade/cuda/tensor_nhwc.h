// FADE with channels last on tensor cores: D[16 pixels x 8 channels] += weights * features.

#pragma once

#include "tensor.h"

// A warp has 4 x 2 cells, two rows of 16 pixels: of a matrix, rows 0 to 7 are the upper line of
// pixels, 8 to 15 the lower one. It keeps the weights in registers for all channels, which come in
// groups of 32. Within a group the window's pairs of channels are transposed: what thread 4g + t
// gets of matrix j are channels 8t + 2j and 8t + 2j + 1, so that it has 8 channels in a row, 16
// bytes, to load of the guide and to store. Guide and output are counted in such vectors.
namespace tensor_nhwc {

constexpr int WIDTH = 8, HEIGHT = 4, GROUP = 32;  // cells of a tile, channels at a time
constexpr int COLUMNS = WIDTH + 2 * REACH, POSITIONS = COLUMNS * (HEIGHT + 2 * REACH);
constexpr int STRIDE = GROUP / 2 + 4;  // pairs; 80 bytes: 8 positions in a row meet all 32 banks
constexpr int VECTORS = POSITIONS * GROUP / 8 / THREADS;  // that a thread stages

using Vector = Pack<Half, 8>;
using Window = Pair[POSITIONS][STRIDE];

union alignas(16) Shared {  // as load_matrices needs
    Half table[THREADS][SIDE * 8];  // of a pixel, row by row
    Window windows[2];
};

struct State {
    Pair weights[SIDE][2][2];  // [row of taps][row of cells][line of pixels]
    Pair matrices[4];          // features of a row of the window: [8 columns x 8 channels] each
    float sum[2][4][4];        // [row of cells][matrix]
    float gate[2];
    Vector guide[2][2];  // [row of cells][line of pixels]
    Pack<Pair, 4> next[VECTORS];
    int source[VECTORS];  // vectors that it stages, without the channels; -1 outside the map
    Pair bad;
};

// The first of the warp's cells in the tile.
CODE int first_row(int warp) { return warp / 2 * 2; }
CODE int first_column(int warp) { return warp % 2 * 4; }

CODE void begin(const Inputs<Half>& in, Block block, int thread, State& state) {
    const Lane lane = lane_of(thread);
    const int v = block.x * WIDTH + first_column(lane.warp) + lane.g / 2;
#pragma unroll
    for (int row = 0; row < 2; ++row) {
        const int u = block.y * HEIGHT + first_row(lane.warp) + row;
        state.gate[row] = u < in.height && v < in.width ? cell_gate(in, u, v) : 0.0f;
    }
#pragma unroll
    for (int i = 0; i < VECTORS; ++i) {
        const int at = thread / 4 + i * THREADS / 4;
        const int y = block.y * HEIGHT - REACH + at / COLUMNS;
        const int x = block.x * WIDTH - REACH + at % COLUMNS;
        const bool inside = y >= 0 && y < in.height && x >= 0 && x < in.width;
        state.source[i] = inside ? (y * in.width + x) * (in.channels / 8) : -1;
    }
    state.bad = 0;
}

// The channels of its vectors are from `channel` on.
CODE void load(const Inputs<Half>& in, int channel, int last, State& state) {
#pragma unroll
    for (int i = 0; i < VECTORS; ++i) {
        state.next[i] = {};
        if (state.source[i] >= 0 && channel < last)
            state.next[i] = ((const Pack<Pair, 4>*)in.logits)[state.source[i] + channel / 8];
    }
}

CODE void stage(int thread, State& state, Window& window) {
    const unsigned position = thread / 4u, column = thread % 4u;
#pragma unroll
    for (int i = 0; i < VECTORS; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            const Pair pair = state.next[i].values[j];
            state.bad |= non_finite(pair);
            window[position + i * THREADS / 4][4 * j + column] = made_finite(pair);
        }
}

// Calls use(row, line, index) for each of the thread's pixels, with its vector at `channel`.
template <class Use>
CODE void each_pixel(const Inputs<Half>& in, Block block, int thread, int channel, Use use) {
    const Lane lane = lane_of(thread);
    const int x = 2 * (block.x * WIDTH + first_column(lane.warp)) + lane.g;
    if (x >= 2 * in.width) return;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        const int y = 2 * (block.y * HEIGHT + first_row(lane.warp)) + i;
        if (y < 2 * in.height)
            use(i / 2, i % 2, (y * 2 * in.width + x) * (in.channels / 8) + channel / 8);
    }
}

// `channels` a multiple of 8. Channels block.z * chunk and on, `chunk` (also one) of them.
CODE void upsample(Block block, const Inputs<Half>& in, Half* out, int chunk) {
    SHARED Shared shared;
    Threads<State> threads;
    const int first = block.z * chunk;
    const int last = first + chunk < in.channels ? first + chunk : in.channels;
    each_thread(threads, [&](int thread, State& state) {
        begin(in, block, thread, state);
        load(in, first + thread % 4 * 8, last, state);
        const int x = thread % (2 * WIDTH), y = thread / (2 * WIDTH);
        fill<8>(in, block.y * 2 * HEIGHT + y, block.x * 2 * WIDTH + x, x / 2 % 4,
                shared.table[thread]);
    });
#pragma unroll
    for (int r = 0; r < SIDE; ++r) {
        load_matrices<false>(threads, [&](int warp, int matrix, int i) {
            const int x = 2 * first_column(warp) + i, y = 2 * first_row(warp) + matrix;
            return &shared.table[y * 2 * WIDTH + x][8 * r];
        });
        each_alone(threads, [&](int, State& state) {
#pragma unroll
            for (int i = 0; i < 4; ++i) state.weights[r][i / 2][i % 2] = state.matrices[i];
        });
    }
    each_thread(threads, [](int, State&) {});  // the table has been read
    int turn = 0;
    for (int channel = first; channel < last; channel += GROUP, turn ^= 1) {
        Window& window = shared.windows[turn];
        each_thread(threads, [&](int thread, State& state) {
            const int own = channel + thread % 4 * 8;
            if (in.guide && own < last)
                each_pixel(in, block, thread, own, [&](int row, int line, int at) {
                    state.guide[row][line] = ((const Vector*)in.guide)[at];
                });
            stage(thread, state, window);
        });
        each_alone(threads, [&](int thread, State& state) {
            load(in, channel + GROUP + thread % 4 * 8, last, state);
#pragma unroll
            for (int i = 0; i < 32; ++i) state.sum[i / 16][i / 4 % 4][i % 4] = 0.0f;
        });
#pragma unroll
        for (int r = 0; r <= SIDE; ++r) {  // the window's rows
            load_matrices<true>(threads, [&](int warp, int matrix, int i) {
                const int position = (first_row(warp) + r) * COLUMNS + first_column(warp) + i;
                return &window[position][4 * matrix];
            });
#pragma unroll
            for (int row = 0; row < 2; ++row)
#pragma unroll
                for (int j = 0; j < 4; ++j)
                    if (r >= row && r < row + SIDE)
                        multiply<1>(threads, [&](State& state) {
                            return Product{state.sum[row][j], state.weights[r - row][row],
                                           &state.matrices[j]};
                        });
        }
        each_alone(threads, [&](int thread, State& state) {
            const int own = channel + thread % 4 * 8;
            if (own >= last) return;
            each_pixel(in, block, thread, own, [&](int row, int line, int at) {
                Vector result;
#pragma unroll
                for (int i = 0; i < 8; ++i) {
                    float value = state.sum[row][i / 2][2 * line + i % 2];
                    if (in.guide)
                        value += state.gate[row] * to_float(state.guide[row][line].values[i]);
                    store(&result.values[i], value);
                }
                ((Vector*)out)[at] = result;
            });
        });
    }
    if (any_thread(threads, [](const State& state) { return (state.bad & MARKS) != 0; }))
        each_thread(threads, [&](int thread, State&) {
            poison<WIDTH, HEIGHT>(block, in, thread, first, last, 1, 1, in.channels, out);
        });
}

}  // namespace tensor_nhwc
