// FADE in planes on tensor cores: D[16 channels x 8 pixels] += features * weights.

#pragma once

#include "tensor.h"

// A warp has 8 x 2 cells and keeps their weights in registers for all channels, which come in
// groups of 16. A line of 16 pixels is two matrices of 8; column 2t + i of matrix j is pixel
// 4t + 2j + i, so that a thread has 4 pixels in a row to load of the guide and to store, and four
// threads a full sector of 32 bytes. Their windows have 12 columns: two parts of 8, the last 4
// columns with weights of zero. Guide and output are counted in vectors of 4, features in pairs.
namespace tensor_nchw {

constexpr int WIDTH = 32, HEIGHT = 2, GROUP = 16;  // cells of a tile, channels at a time
constexpr int ROWS = HEIGHT + 2 * REACH, PAIRS = (WIDTH + 8) / 2;  // of the window, 2 pairs unused
constexpr int PLANE = ROWS * PAIRS + 4;  // 496 bytes: a row of 8 channels meets all 32 banks

using Vector = Pack<Half, 4>;
using Window = Pair[GROUP][PLANE];

union alignas(16) Shared {  // as load_matrices needs
    Half table[THREADS][SIDE * 16 + 8];  // of a pixel in a row of cells, row by row
    Window windows[2];
};

struct State {
    Pair weights[2][SIDE][2][2][2];  // [row of cells][row of taps][line][matrix][part]
    Pair matrices[4];                // features: [part][8 channels]
    float sum[2][2][2][4];           // [row of cells][line][matrix]
    float gate[2][2];                // [row of cells][matrix]
    Vector guide[2][2][2];           // [row of cells][line][channel g, g + 8]
    int source;  // the pair that it stages, without the channel; -1 for nothing
    Pair bad;
};

CODE void begin(const Inputs<Half>& in, Block block, int thread, State& state) {
    const Lane lane = lane_of(thread);
#pragma unroll
    for (int row = 0; row < 2; ++row)
#pragma unroll
        for (int j = 0; j < 2; ++j) {
            const int u = block.y * HEIGHT + row;
            const int v = block.x * WIDTH + 8 * lane.warp + 2 * lane.t + j;
            state.gate[row][j] = u < in.height && v < in.width ? cell_gate(in, u, v) : 0.0f;
        }
    const int y = block.y * HEIGHT - REACH + thread / PAIRS;
    const int x = block.x * WIDTH - REACH + thread % PAIRS * 2;
    const bool some = thread < ROWS * PAIRS && thread % PAIRS < PAIRS - 2;
    const bool inside = y >= 0 && y < in.height && x >= 0 && x < in.width;
    state.source = some && inside ? (y * in.width + x) / 2 : -1;
    state.bad = 0;
}

// No register is left to load features ahead in: other blocks' work has to cover the wait.
CODE void stage(const Inputs<Half>& in, int channel, int last, int thread, State& state,
                Window& window) {
    if (thread >= ROWS * PAIRS) return;
    const int plane = in.height * in.width / 2;
    Pair pairs[GROUP] = {};
#pragma unroll
    for (int i = 0; i < GROUP; ++i)
        if (state.source >= 0 && channel + i < last)
            pairs[i] = ((const Pair*)in.logits)[state.source + (channel + i) * plane];
#pragma unroll
    for (int i = 0; i < GROUP; ++i) {
        state.bad |= non_finite(pairs[i]);
        window[i][thread] = made_finite(pairs[i]);
    }
}

// Calls use(row, line, half, index) for each vector of the thread, of channel g or g + 8.
template <class Use>
CODE void each_vector(const Inputs<Half>& in, Block block, int thread, int channel, int last,
                      Use use) {
    const Lane lane = lane_of(thread);
    const int x = (block.x * WIDTH + 8 * lane.warp) / 2 + lane.t;
    if (2 * x >= in.width) return;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
        const int own = channel + lane.g + i / 4 * 8, y = 2 * block.y * HEIGHT + i % 4;
        if (own < last && y < 2 * in.height)
            use(i / 2 % 2, i % 2, i / 4, (own * 2 * in.height + y) * (in.width / 2) + x);
    }
}

// `width` a multiple of 2. Channels block.z * chunk and on, `chunk` of them.
CODE void upsample(Block block, const Inputs<Half>& in, Half* out, int chunk) {
    SHARED Shared shared;
    Threads<State> threads;
    const int first = block.z * chunk;
    const int last = first + chunk < in.channels ? first + chunk : in.channels;
    each_alone(threads, [&](int thread, State& state) { begin(in, block, thread, state); });
#pragma unroll
    for (int row = 0; row < 2; ++row) {  // of cells
        each_thread(threads, [&](int thread, State&) {
            const int x = thread % (2 * WIDTH), y = 2 * row + thread / (2 * WIDTH);
            fill<16>(in, block.y * 2 * HEIGHT + y, block.x * 2 * WIDTH + x, x / 2 % 8,
                     shared.table[thread]);
        });
#pragma unroll
        for (int i = 0; i < 2 * SIDE; ++i) {
            const int r = i / 2, line = i % 2;
            load_matrices<false>(threads, [&](int warp, int matrix, int n) {
                const int x = 16 * warp + n / 2 * 4 + matrix / 2 * 2 + n % 2;
                return &shared.table[line * 2 * WIDTH + x][16 * r + matrix % 2 * 8];
            });
            each_alone(threads, [&](int, State& state) {
#pragma unroll
                for (int k = 0; k < 4; ++k)
                    state.weights[row][r][line][k / 2][k % 2] = state.matrices[k];
            });
        }
        each_thread(threads, [](int, State&) {});  // the table has been read
    }
    int turn = 0;
    for (int channel = first; channel < last; channel += GROUP, turn ^= 1) {
        Window& window = shared.windows[turn];
        each_thread(threads, [&](int thread, State& state) {
            if (in.guide)
                each_vector(in, block, thread, channel, last,
                            [&](int row, int line, int half, int at) {
                                state.guide[row][line][half] = ((const Vector*)in.guide)[at];
                            });
            stage(in, channel, last, thread, state, window);
#pragma unroll
            for (int i = 0; i < 32; ++i) state.sum[i / 16][i / 8 % 2][i / 4 % 2][i % 4] = 0.0f;
        });
#pragma unroll
        for (int r = 0; r < ROWS; ++r) {
            load_matrices<false>(threads, [&](int warp, int matrix, int i) {
                return &window[matrix % 2 * 8 + i][r * PAIRS + warp * 4 + matrix / 2 * 4];
            });
#pragma unroll
            for (int i = 0; i < 8; ++i) {
                const int row = i / 4, line = i / 2 % 2, j = i % 2;
                if (r >= row && r < row + SIDE)
                    multiply<2>(threads, [&](State& state) {
                        return Product{state.sum[row][line][j], state.matrices,
                                       state.weights[row][r - row][line][j]};
                    });
            }
        }
        each_alone(threads, [&](int thread, State& state) {
            each_vector(in, block, thread, channel, last,
                        [&](int row, int line, int half, int at) {
                            Vector result;
#pragma unroll
                            for (int i = 0; i < 4; ++i) {
                                float value = state.sum[row][line][i / 2][2 * half + i % 2];
                                if (in.guide)
                                    value += state.gate[row][i / 2] *
                                             to_float(state.guide[row][line][half].values[i]);
                                store(&result.values[i], value);
                            }
                            ((Vector*)out)[at] = result;
                        });
        });
    }
    const long long plane = (long long)in.height * in.width;
    if (any_thread(threads, [](const State& state) { return (state.bad & MARKS) != 0; }))
        each_thread(threads, [&](int thread, State&) {
            poison<WIDTH, HEIGHT>(block, in, thread, first, last, plane, 4 * plane, 1, out);
        });
}

}  // namespace tensor_nchw
