// What the tensor cores' two forms of `upsample` share: the weights' table and bad features.
//
// A window's row of 8 columns is one mma: the weights are a matrix of pixels x columns that holds
// each pixel's 5 weights in a band and zeros beside it. A feature that is a NaN or an infinity
// would, times zero, spread from there to neighbours that do not depend on it: the windows hold
// another number in its place, and `poison` puts NaN where it belongs.

#pragma once

#include "warp.h"
#include "weights.h"

// A pixel's row of the matrices: five times COLUMNS weights, those of cell column `cell` of the
// window, times what the gate leaves to them; zero beyond the map.
template <int COLUMNS>
CODE void fill(const Inputs<Half>& in, int y, int x, int cell, Half* row) {
    float own[TAPS] = {}, share = 0.0f;
    if (y < 2 * in.height && x < 2 * in.width) {
        pixel_softmax(in, y, x, own);
        share = 1.0f - cell_gate(in, y / 2, x / 2);
    }
#pragma unroll
    for (int i = 0; i < SIDE * COLUMNS / 4; ++i) ((Pack<Half, 4>*)row)[i] = {};
#pragma unroll
    for (int k = 0; k < TAPS; ++k)
        store(&row[k / SIDE * COLUMNS + cell + k % SIDE], share * own[k]);
}

// NaN in every pixel of the tile that a NaN or an infinity among channels first to last - 1
// reaches. Rare, so it simply looks at the whole window again. From one channel to the next it is
// `step` values in the features and `out_step` in the output, from a pixel to the next `size`.
template <int WIDTH, int HEIGHT>
CODE void poison(Block block, const Inputs<Half>& in, int thread, int first, int last,
                 long long step, long long out_step, int size, Half* out) {
    constexpr int COLUMNS = WIDTH + 2 * REACH, ROWS = HEIGHT + 2 * REACH;
    const int top = block.y * HEIGHT, left = block.x * WIDTH;
    for (int item = thread; item < COLUMNS * ROWS * (last - first); item += THREADS) {
        const int channel = first + item / (COLUMNS * ROWS);
        const int u = top - REACH + item / COLUMNS % ROWS, v = left - REACH + item % COLUMNS;
        if (u < 0 || u >= in.height || v < 0 || v >= in.width) continue;
        const long long at = channel * step + ((long long)u * in.width + v) * size;
        if (is_finite(to_float(in.logits[at]))) continue;
        for (int y = 2 * (u - REACH); y < 2 * (u + REACH + 1); ++y)
            for (int x = 2 * (v - REACH); x < 2 * (v + REACH + 1); ++x)
                if (y >= 2 * top && y < 2 * (top + HEIGHT) && y < 2 * in.height && x >= 2 * left &&
                    x < 2 * (left + WIDTH) && x < 2 * in.width)
                    out[channel * out_step + ((long long)y * 2 * in.width + x) * size] = {0x7fff};
    }
}
