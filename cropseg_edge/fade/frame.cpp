// A frame's two ends on the CPU: a picture becomes the network's input, probabilities a mask.
//
// Both are bilinear samples at pixel centres: of levels along the rows first, in the integers and
// with the roundings of OpenCV; of probabilities between two rows first, which is less work. Plain
// C functions, loaded with ctypes; arrays are contiguous [planes][rows][columns] unless strides say
// otherwise.

#include "processors.h"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <vector>

namespace {

constexpr int BLOCK = 16;  // outputs are worked on LANES at a time, a divisor of this
constexpr int SLACK = 32;  // values past a row's end that `neighbours` may read
constexpr int COLOURS = 3;

constexpr int whole_blocks(int count) { return (count + BLOCK - 1) / BLOCK * BLOCK; }

// Where outputs lie among the `size` inputs of an axis: output i at scale * i + offset, clamped to
// the first and last input. What is past `count` outputs, up to a whole block, is valid as well.
struct Axis {
    std::vector<int32_t> left;  // the left neighbour; a right one follows, unless size is 1
    std::vector<float> part;    // the right one's weight
    bool dense;                 // neighbouring outputs lie at most two inputs apart

    Axis(double scale, double offset, int size, int count)
        : left(whole_blocks(count)), part(whole_blocks(count)), dense(scale <= 2) {
        for (int i = 0; i < whole_blocks(count); ++i) {
            double at = scale * i + offset;
            at = at > 0 ? at : 0;
            at = at < size - 1 ? at : size - 1;
            left[i] = (int32_t)(at < size - 2 || size == 1 ? at : size - 2);
            part[i] = (float)(at - left[i]);
        }
    }
};

template <int N>
struct Lanes {
    typedef float Floats __attribute__((vector_size(N * sizeof(float))));
    typedef int32_t Ints __attribute__((vector_size(N * sizeof(int32_t))));
    typedef int16_t Shorts __attribute__((vector_size(N * sizeof(int16_t))));
    typedef uint8_t Bytes __attribute__((vector_size(N)));
};

template <typename Vector, typename T>
INLINE Vector load(const T* from) {
    Vector vector;
    std::memcpy(&vector, from, sizeof vector);
    return vector;
}

template <typename Vector, typename T>
INLINE void store(Vector vector, T* to) {
    std::memcpy(to, &vector, sizeof vector);
}

// In two steps: GCC converts to a quarter of the size one lane at a time.
template <int N>
INLINE typename Lanes<N>::Bytes to_bytes(typename Lanes<N>::Ints ints) {
    const auto shorts = __builtin_convertvector(ints, typename Lanes<N>::Shorts);
    return __builtin_convertvector(shorts, typename Lanes<N>::Bytes);
}

// The left and right neighbours of N outputs from x on. With a dense axis all are among 2 N inputs:
// permuting two vectors takes less time than loading every one, or than gathering.
template <int N, typename Vector, typename T>
INLINE void neighbours(const T* row, const Axis& axis, int x, Vector& start, Vector& end) {
    const int32_t* left = axis.left.data() + x;
#if PERMUTES
    if (N > 4 && axis.dense) {
        const auto at = load<typename Lanes<N>::Ints>(left) - left[0];
        const auto low = load<Vector>(row + left[0]), high = load<Vector>(row + left[0] + N);
        start = __builtin_shuffle(low, high, at);
        end = __builtin_shuffle(low, high, at + 1);
        return;
    }
#endif
    T lanes[2][N];
    for (int i = 0; i < N; ++i) lanes[0][i] = row[left[i]], lanes[1][i] = row[left[i] + 1];
    start = load<Vector>(lanes[0]), end = load<Vector>(lanes[1]);
}

template <int N>
INLINE typename Lanes<N>::Floats sample(const float* row, const Axis& axis, int x) {
    typename Lanes<N>::Floats start, end;
    neighbours<N>(row, axis, x, start, end);
    return start + load<decltype(start)>(axis.part.data() + x) * (end - start);
}

struct Grid {
    const float* probabilities;
    int channels, height, width;
};

// Rows [first, last) of the mask: class 0 where it is more probable than all others together, else
// the most probable other one, and its probability. `rows` is for one mixed row of every class.
template <int N>
INLINE void decode_loops(const Grid& grid, const Axis& xs, const Axis& ys, int width, int first,
                         int last, float* rows, uint8_t* labels, uint8_t* confidence) {
    typedef typename Lanes<N>::Floats Floats;
    typedef typename Lanes<N>::Ints Ints;
    typedef typename Lanes<N>::Bytes Bytes;
    const size_t plane = (size_t)grid.height * grid.width, row_size = (size_t)grid.width + SLACK;
    for (int y = first; y < last; ++y) {
        const float part = ys.part[y];
        for (int c = 0; c < grid.channels; ++c) {
            const float* top = grid.probabilities + c * plane + (size_t)ys.left[y] * grid.width;
            const float* bottom = grid.height > 1 ? top + grid.width : top;
            float* row = rows + c * row_size;
            for (int x = 0; x < grid.width; ++x) row[x] = top[x] + part * (bottom[x] - top[x]);
        }
        for (int x = 0; x < width; x += N) {
            const Floats zero = sample<N>(rows, xs, x);
            Floats rest = {}, best = {};
            Ints label = Ints{} + 1;
            for (int c = 1; c < grid.channels; ++c) {
                const Floats value = sample<N>(rows + c * row_size, xs, x);
                label = value > best ? Ints{} + c : label;
                best = value > best ? value : best;
                rest += value;
            }
            label = zero > rest ? Ints{} : label;
            best = zero > rest ? zero : best;
            const Ints level = __builtin_convertvector(best * 255.0f + 0.5f, Ints);
            const Bytes label_bytes = to_bytes<N>(label), level_bytes = to_bytes<N>(level);
            const size_t n = width - x < N ? width - x : N, at = (size_t)y * width + x;
            if (n == N) {
                store(label_bytes, labels + at);
                store(level_bytes, confidence + at);
            } else {
                const Bytes both[2] = {label_bytes, level_bytes};
                std::memcpy(labels + at, both, n);
                std::memcpy(confidence + at, both + 1, n);
            }
        }
    }
}

PER_PROCESSOR(decode, decode_loops<LANES>,
              (const Grid& grid, const Axis& xs, const Axis& ys, int width, int first, int last,
               float* rows, uint8_t* labels, uint8_t* confidence),
              (grid, xs, ys, width, first, last, rows, labels, confidence))

INLINE void in_unit_range_loops(const float* values, size_t count, bool* good) {
    int32_t bad = 0;
    for (size_t i = 0; i < count; ++i) bad |= values[i] >= 0.0f && values[i] <= 1.001f ? 0 : 1;
    *good = bad == 0;
}

PER_PROCESSOR(in_unit_range, in_unit_range_loops, (const float* values, size_t count, bool* good),
              (values, count, good))

struct Picture {
    const uint8_t* pixels;  // of three bytes
    ptrdiff_t stride;       // bytes from a row to the next one
    int height, width;
};

struct Planes {
    float* corner;         // the picture's, in plane 0
    ptrdiff_t plane, row;  // floats from a plane, from a row, to the next one
    int width;
    int byte[COLOURS];     // of a pixel, for each plane
    float scale[COLOURS], offset[COLOURS];
};

// Pixels of three bytes to integers; what the highest byte holds does not matter.
template <int N>
INLINE void unpack(const uint8_t* pixels, int width, int32_t* row) {
    int x = 0;
#if PERMUTES
    typedef Lanes<16>::Bytes Bytes;
    const Bytes places{0, 1, 2, 2, 3, 4, 5, 5, 6, 7, 8, 8, 9, 10, 11, 11};
    for (; N > 4 && x + 18 <= width; x += 16)
        for (int i = x; i < x + 16; i += 4)  // four pixels and the third that 16 bytes hold as well
            store(__builtin_shuffle(load<Bytes>(pixels + COLOURS * i), places), row + i);
#endif
    for (const uint8_t* at = pixels + COLOURS * x; x < width; ++x, at += COLOURS)
        row[x] = at[0] | at[1] << 8 | at[2] << 16;
}

// Samples of a row of unpacked pixels, 128 times the level, as OpenCV computes them, for each byte.
template <int N>
INLINE void sample_pixels(const int32_t* row, const Axis& axis, int width, int16_t* out) {
    typedef typename Lanes<N>::Ints Ints;
    for (int x = 0; x < width; x += N) {
        Ints start, end;
        neighbours<N>(row, axis, x, start, end);
        const auto weight = load<typename Lanes<N>::Floats>(axis.part.data() + x) * 2048.0f;
        const Ints right = __builtin_convertvector(weight, Ints);
        for (int c = 0; c < COLOURS; ++c) {
            const Ints a = start >> 8 * c & 255, b = end >> 8 * c & 255;
            const Ints level = ((a << 11) + right * (b - a)) >> 4;
            store(__builtin_convertvector(level, typename Lanes<N>::Shorts),
                  out + c * axis.left.size() + x);
        }
    }
}

// Rows [first, last) of the planes: samples rounded to levels as OpenCV rounds them, then
// scale * level + offset. `row` is for the pixels of a source row, `sampled` for the samples of
// two, of which row v is in slot v % 2.
template <int N>
INLINE void letterbox_loops(const Picture& from, const Planes& to, const Axis& xs, const Axis& ys,
                            int first, int last, int32_t* row, int16_t* sampled) {
    const size_t row_size = xs.left.size();
    int held[2] = {-1, -1};
    for (int y = first; y < last; ++y) {
        const int above = ys.left[y], below = above + 1 < from.height ? above + 1 : above;
        for (const int v : {above, below})
            if (held[v % 2] != v) {
                unpack<N>(from.pixels + v * from.stride, from.width, row);
                sample_pixels<N>(row, xs, to.width, sampled + v % 2 * COLOURS * row_size);
                held[v % 2] = v;
            }
        const int16_t lower = (int16_t)(2048 * ys.part[y]), upper = 2048 - lower;
        for (int p = 0; p < COLOURS; ++p) {
            const int16_t* a = sampled + (above % 2 * COLOURS + to.byte[p]) * row_size;
            const int16_t* b = sampled + (below % 2 * COLOURS + to.byte[p]) * row_size;
            float* out = to.corner + p * to.plane + y * to.row;
            const float scale = to.scale[p], offset = to.offset[p];
            for (int x = 0; x < to.width; ++x) {
                const int16_t u = (int16_t)(upper * a[x] >> 16), l = (int16_t)(lower * b[x] >> 16);
                out[x] = scale * (float)((u + l + 2) >> 2) + offset;
            }
        }
    }
}

PER_PROCESSOR(letterbox, letterbox_loops<LANES>,
              (const Picture& from, const Planes& to, const Axis& xs, const Axis& ys, int first,
               int last, int32_t* row, int16_t* sampled),
              (from, to, xs, ys, first, last, row, sampled))

}  // namespace

extern "C" {

// Rows [first, last) of a picture of out_height x out_width in the network's input; parts may run
// in threads of their own. `bytes` says which byte of a pixel goes to which of the three planes,
// `out` is the picture's corner in the first of them. 0 when done, 1 when memory ran out.
int cropseg_letterbox(const uint8_t* pixels, ptrdiff_t stride, int height, int width,
                      const int* bytes, const float* scale, const float* offset, int out_height,
                      int out_width, ptrdiff_t out_stride, ptrdiff_t out_plane, int first, int last,
                      float* out) {
    const double x_scale = (double)width / out_width, y_scale = (double)height / out_height;
    const Picture from{pixels, stride, height, width};
    Planes to{out, out_plane, out_stride, out_width, {}, {}, {}};
    std::memcpy(to.byte, bytes, sizeof to.byte);
    std::memcpy(to.scale, scale, sizeof to.scale);
    std::memcpy(to.offset, offset, sizeof to.offset);
    try {
        Axis xs(x_scale, 0.5 * x_scale - 0.5, width, out_width);
        Axis ys(y_scale, 0.5 * y_scale - 0.5, height, out_height);
        for (Axis* axis : {&xs, &ys})  // weights in 1/2048, as OpenCV's
            for (float& part : axis->part) part = (float)(int)(part * 2048 + 0.5f) / 2048;
        std::vector<int32_t> row((size_t)width + SLACK);
        std::vector<int16_t> sampled(2 * COLOURS * xs.left.size());
        letterbox(from, to, xs, ys, first, last, row.data(), sampled.data());
    } catch (const std::bad_alloc&) {
        return 1;
    }
    return 0;
}

// 1 when every value is in [0, 1], else 0.
int cropseg_in_unit_range(const float* values, size_t count) {
    bool good;
    in_unit_range(values, count, &good);
    return good;
}

// The frame's rows [first, last), of probabilities that are in [0, 1]; parts may run in threads of
// their own. 0 when done, 1 when memory ran out.
int cropseg_decode(const float* probabilities, int channels, int grid_height, int grid_width,
                   double x_scale, double x_offset, double y_scale, double y_offset, int height,
                   int width, int first, int last, uint8_t* labels, uint8_t* confidence) {
    const Grid grid{probabilities, channels, grid_height, grid_width};
    try {
        const Axis xs(x_scale, x_offset, grid_width, width);
        const Axis ys(y_scale, y_offset, grid_height, height);
        std::vector<float> rows(channels * ((size_t)grid_width + SLACK));
        decode(grid, xs, ys, width, first, last, rows.data(), labels, confidence);
    } catch (const std::bad_alloc&) {
        return 1;
    }
    return 0;
}
}
