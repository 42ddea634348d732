// The frame's ends of the pipeline: its pixels into the network's input, probabilities into a mask.

#pragma once

#include "classes.h"

using Byte = unsigned char;
using Byte4 = Pack<Byte, 4>;

// Looks at every probability [C][plane]: outside of 0 to 1 (with rounding) or NaN sets NON_FINITE,
// two different ones of a class set VARIES.
CODE void check_probabilities(Block block, const float* probabilities, int* status, int channels,
                              int plane) {
    struct Nothing {};
    Threads<Nothing> threads;
    each_thread(threads, [&](int thread, Nothing&) {
        const int at = block.x * THREADS + thread;
        if (at >= plane || block.y >= channels) return;
        const float* map = probabilities + (long long)block.y * plane;
        const float value = map[at];
        const int faults = (value >= 0.0f && value <= 1.001f ? 0 : NON_FINITE) |
                           (value != map[0] ? VARIES : 0);
        if (faults) set_bits(status, faults);
    });
}

// 255 and 0 everywhere, if the frame has a fault that forbids its mask.
CODE void conceal_mask(Block block, Byte* labels, Byte* confidence, const int* status, int count) {
    struct Nothing {};
    Threads<Nothing> threads;
    each_thread(threads, [&](int thread, Nothing&) {
        const int at = block.x * THREADS + thread;
        if (at >= count || !(*status & NON_FINITE)) return;
        labels[at] = UNKNOWN;
        confidence[at] = 0;
    });
}

// Where a sample lies between two neighbours: at `left` + `part`, 0 <= part <= 1.
struct Position {
    int left;
    float part;
};

// scale * i + offset clamped to [0, size - 1]; scale and offset in units of 2^-32, so that a wide
// frame's last column is as exact as its first without double precision.
CODE Position position(long long scale, long long offset, int i, int size) {
    const long long at = scale * i + offset, end = (long long)(size - 1) << 32;
    const long long inside = at < 0 ? 0 : at > end ? end : at;
    int left = (int)(inside >> 32);
    left = left < size - 2 || size == 1 ? left : size - 2;
    return {left, (float)(inside - ((long long)left << 32)) * 2.3283064e-10f};
}

// What `decode` needs besides its outputs.
struct Grid {
    const float* probabilities;
    int channels, height, width;
    long long x_scale, x_offset, y_scale, y_offset;
};

CODE float sample(const Grid& grid, int c, Position y, Position x) {
    const int below = grid.height > 1 ? grid.width : 0, right = grid.width > 1 ? 1 : 0;
    const long long row = (long long)c * grid.height + y.left;
    const float* at = grid.probabilities + row * grid.width + x.left;
    const float top = at[0] + x.part * (at[right] - at[0]);
    const float bottom = at[below] + x.part * (at[below + right] - at[below]);
    return top + y.part * (bottom - top);
}

// A thread decides four pixels of a row; the rule is that of class_labels.
CODE void decode_mask(Block block, const Grid& grid, Byte* labels, Byte* confidence,
                      const int* status, int height, int width) {
    struct Nothing {};
    Threads<Nothing> threads;
    each_thread(threads, [&](int thread, Nothing&) {
        const int y = block.y * PIXEL_TILE_HEIGHT + thread / PIXEL_TILE_WIDTH;
        const int x = 4 * (block.x * PIXEL_TILE_WIDTH + thread % PIXEL_TILE_WIDTH);
        if (y >= height || x >= width) return;
        const bool good = !(*status & NON_FINITE);
        Byte4 classes, levels;
        const Position row = position(grid.y_scale, grid.y_offset, y, grid.height);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const Position column = position(grid.x_scale, grid.x_offset, x + i, grid.width);
            const float zero = sample(grid, 0, row, column);
            float best = 0.0f, others = 0.0f;
            int label = 1;
#pragma unroll 1
            for (int c = 1; c < grid.channels; ++c) {
                const float value = sample(grid, c, row, column);
                label = value > best ? c : label;
                best = value > best ? value : best;
                others += value;
            }
            const bool background = zero > others;
            const float chosen = background ? zero : best;
            classes.values[i] = (Byte)(!good ? UNKNOWN : background ? 0 : label);
            levels.values[i] = (Byte)(good ? (int)(chosen * 255.0f + 0.5f) : 0);
        }
        const long long at = (long long)y * width + x;
        if (width % 4 == 0) {
            *(Byte4*)(labels + at) = classes;
            *(Byte4*)(confidence + at) = levels;
            return;
        }
        for (int i = 0; i < 4 && x + i < width; ++i) {
            labels[at + i] = classes.values[i];
            confidence[at + i] = levels.values[i];
        }
    });
}

// The letterboxed picture: as fade.cuda.stage.CudaFade.preprocess passes it.
struct Picture {
    const Byte* image;
    int height, width, halvings, area;
    int inner_height, inner_width, top, left, out_height, out_width, reverse;
};

struct Levels {
    int of[3];  // blue, green, red
};

// A pixel of the picture halved `halvings` times: the rounded mean of a block.
CODE Levels halved(const Picture& in, int y, int x) {
    const int side = 1 << in.halvings, half = side * side / 2, step = 3 * in.width;
    const Byte* row = in.image + (long long)y * side * step + x * side * 3;
    Levels sum{{half, half, half}};
#pragma unroll 1
    for (int i = 0; i < side; ++i, row += step)
#pragma unroll 1
        for (int j = 0; j < 3 * side; j += 3)
#pragma unroll
            for (int c = 0; c < 3; ++c) sum.of[c] += row[j + c];
#pragma unroll
    for (int c = 0; c < 3; ++c) sum.of[c] >>= 2 * in.halvings;
    return sum;
}

// Two neighbours that an output pixel lies between, and the weight of the second in 1/2048.
struct Neighbours {
    int first, second, weight;
};

CODE Neighbours neighbours(int i, int size, int to) {
    const int at = (2 * i + 1) * size - to, step = 2 * to;  // position in units of 1 / step
    if (at <= 0) return {0, 0, 0};
    const int first = at / step;
    if (first >= size - 1) return {size - 1, size - 1, 0};
    return {first, first + 1, (at % step * 2048 + to) / step};
}

// Bilinear with half-pixel centres, in the integers that OpenCV computes with.
CODE Levels bilinear(const Picture& in, Neighbours y, Neighbours x) {
    Levels result{};
#pragma unroll
    for (int i = 0; i < 2; ++i) {
        const int row = i ? y.second : y.first, weight = i ? y.weight : 2048 - y.weight;
        const Levels left = halved(in, row, x.first), right = halved(in, row, x.second);
#pragma unroll
        for (int c = 0; c < 3; ++c) {
            const int mixed = (2048 - x.weight) * left.of[c] + x.weight * right.of[c];
            result.of[c] += weight * (mixed >> 4) >> 16;
        }
    }
#pragma unroll
    for (int c = 0; c < 3; ++c) result.of[c] = (result.of[c] + 2) >> 2;
    return result;
}

// How much of source pixel k lies in output pixel i, in units of 1 / to.
CODE int overlap(int k, int i, int size, int to) {
    const int low = k * to > i * size ? k * to : i * size;
    const int high = (k + 1) * to < (i + 1) * size ? (k + 1) * to : (i + 1) * size;
    return high - low;
}

// The mean of what an output pixel covers of the halved picture, height x width.
CODE Levels area_mean(const Picture& in, int y, int x, int height, int width) {
    float sum[3] = {};
#pragma unroll 1
    for (int i = y * height / in.inner_height; i * in.inner_height < (y + 1) * height; ++i)
#pragma unroll 1
        for (int j = x * width / in.inner_width; j * in.inner_width < (x + 1) * width; ++j) {
            const Levels levels = halved(in, i, j);
            const float weight = (float)overlap(i, y, height, in.inner_height) *
                                 (float)overlap(j, x, width, in.inner_width);
#pragma unroll
            for (int c = 0; c < 3; ++c) sum[c] += weight * levels.of[c];
        }
    const float whole = (float)height * (float)width;
    Levels result;
#pragma unroll
    for (int c = 0; c < 3; ++c) result.of[c] = (int)(sum[c] / whole + 0.5f);
    return result;
}

// Normalised planes [3][out_height][out_width]; zero, the mean colour, around the picture.
template <class T>
CODE void letterbox(Block block, const Picture& in, const float (&scale)[3],
                    const float (&offset)[3], T* out) {
    struct Nothing {};
    Threads<Nothing> threads;
    each_thread(threads, [&](int thread, Nothing&) {
        const Pixel pixel = pixel_of(block, thread, in.out_height, in.out_width);
        if (!pixel.inside) return;
        const int y = pixel.y - in.top, x = pixel.x - in.left;
        const int height = in.height >> in.halvings, width = in.width >> in.halvings;
        const bool picture = y >= 0 && y < in.inner_height && x >= 0 && x < in.inner_width;
        Levels levels{};
        if (picture)
            levels = in.area ? area_mean(in, y, x, height, width)
                             : bilinear(in, neighbours(y, height, in.inner_height),
                                        neighbours(x, width, in.inner_width));
#pragma unroll
        for (int plane = 0; plane < 3; ++plane) {
            const float level = (float)(in.reverse ? levels.of[2 - plane] : levels.of[plane]);
            const long long row = (long long)plane * in.out_height + pixel.y;
            store(out + row * in.out_width + pixel.x,
                  picture ? level * scale[plane] + offset[plane] : 0.0f);
        }
    });
}
