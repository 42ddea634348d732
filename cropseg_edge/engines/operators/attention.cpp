// softmax(Q K^T / sqrt(depth)) V as one operator of ONNX Runtime on the CPU.
//
// Standard operators write all scores to memory, twice, and move heads to the front and back. Here
// a block of queries goes through the keys tile by tile with a running maximum and sum (Milakov,
// Gimelshein 2018; Dao et al.: "FlashAttention", NeurIPS 2022). The lanes of a vector are queries:
// keys and values are then read as they lie, one number at a time for all lanes.

#include "../../fade/approximate.h"
#include "../../fade/processors.h"
#include "operator.h"

#include <cfloat>
#include <cmath>
#include <cstring>

namespace {

#define MEMBER __attribute__((always_inline))

constexpr int QUERIES = 32;  // of one part: two of the widest vectors
constexpr int TILE = 64, ROWS = 4, MOST_DEPTH = 128;

struct Work {
    const float* qkv;  // [windows, tokens, 3, heads, depth]
    float* out;        // [windows, tokens, heads, depth]
    int tokens, heads, depth;
    float scale;

    ptrdiff_t stride() const { return (ptrdiff_t)3 * heads * depth; }
};

template <int LANES>
struct Of {
    typedef float Vector __attribute__((vector_size(LANES * sizeof(float)), may_alias));
};

// sums[row][lane] += over `count` steps: numbers[row, step] * lanes[step][lane].
template <int LANES, int VECTORS, int COUNT>
INLINE void multiply(const float* numbers, ptrdiff_t row, ptrdiff_t step, const float* lanes,
                     int count, float* sums) {
    typedef typename Of<LANES>::Vector Vector;
    const Vector* own = reinterpret_cast<const Vector*>(lanes);
    Vector* to = reinterpret_cast<Vector*>(sums);
    Vector sum[COUNT * VECTORS];
#pragma GCC unroll 8
    for (int i = 0; i < COUNT * VECTORS; ++i) sum[i] = to[i];
    for (int i = 0; i < count; ++i)
#pragma GCC unroll 8
        for (int r = 0; r < COUNT; ++r)
#pragma GCC unroll 8
            for (int v = 0; v < VECTORS; ++v)
                sum[r * VECTORS + v] += numbers[r * row + i * step] * own[i * VECTORS + v];
#pragma GCC unroll 8
    for (int i = 0; i < COUNT * VECTORS; ++i) to[i] = sum[i];
}

INLINE void exponentials(float* numbers, int count) {
    for (int i = 0; i < count; ++i) numbers[i] = exp_negative(numbers[i]);
}

// A block of queries and what it knows of the keys so far. Lanes are queries.
template <int LANES, int VECTORS>
struct Block {
    static constexpr int SIDE = VECTORS * LANES;
    typedef typename Of<LANES>::Vector Vector;

    alignas(64) float query[MOST_DEPTH * SIDE], sums[MOST_DEPTH * SIDE], scores[TILE * SIDE];
    Vector highest[VECTORS], total[VECTORS];

    // What lies beyond the last query repeats it.
    MEMBER void read(const float* queries, int count, ptrdiff_t stride, int depth, float scale) {
        for (int q = 0; q < SIDE; ++q) {
            const float* own = queries + (ptrdiff_t)std::min(q, count - 1) * stride;
            for (int d = 0; d < depth; ++d) query[d * SIDE + q] = scale * own[d];
        }
        std::memset(sums, 0, depth * SIDE * sizeof(float));
        for (int v = 0; v < VECTORS; ++v) highest[v] = Vector{} - FLT_MAX, total[v] = Vector{};
    }

    // Scores of a tile, before the softmax.
    MEMBER void score(const float* key, int tile, ptrdiff_t stride, int depth) {
        std::memset(scores, 0, sizeof scores);
        int k = 0;
        for (; k + ROWS <= tile; k += ROWS)
            multiply<LANES, VECTORS, ROWS>(key + k * stride, stride, 1, query, depth,
                                           scores + k * SIDE);
        for (; k < tile; ++k)
            multiply<LANES, VECTORS, 1>(key + k * stride, stride, 1, query, depth,
                                        scores + k * SIDE);
    }

    // Scores become weights, the highest score's so far being 1; earlier sums follow.
    MEMBER void weigh(int tile, int depth) {
        Vector* score = reinterpret_cast<Vector*>(scores);
        Vector* sum = reinterpret_cast<Vector*>(sums);
        Vector factor[VECTORS];
        for (int v = 0; v < VECTORS; ++v) {
            Vector high = highest[v];
            for (int k = v; k < tile * VECTORS; k += VECTORS)
                high = score[k] > high ? score[k] : high;
            for (int k = v; k < tile * VECTORS; k += VECTORS) score[k] -= high;
            factor[v] = highest[v] - high;
            highest[v] = high;
        }
        exponentials(reinterpret_cast<float*>(factor), SIDE);
        exponentials(scores, tile * SIDE);
        for (int v = 0; v < VECTORS; ++v) {
            Vector own = total[v] * factor[v];
            for (int k = v; k < tile * VECTORS; k += VECTORS) own += score[k];
            total[v] = own;
            for (int d = v; d < depth * VECTORS; d += VECTORS) sum[d] *= factor[v];
        }
    }

    MEMBER void add(const float* value, int tile, ptrdiff_t stride, int depth) {
        asm volatile("" : "+m"(highest), "+m"(total));  // to memory: sums need the registers
        for (int d = 0; d < depth; d += ROWS)
            multiply<LANES, VECTORS, ROWS>(value + d, 1, stride, scores, tile, sums + d * SIDE);
    }

    MEMBER void write(int count, ptrdiff_t stride, int depth, float* out) {
        Vector* sum = reinterpret_cast<Vector*>(sums);
        // The highest score weighs 1; without it there was none above -inf.
        for (int v = 0; v < VECTORS; ++v)
            total[v] = total[v] > 0.5f ? total[v] : Vector{} + __builtin_nanf("");
        for (int d = 0; d < depth; ++d)
            for (int v = 0; v < VECTORS; ++v) sum[d * VECTORS + v] /= total[v];
        for (int q = 0; q < count; ++q)
            for (int d = 0; d < depth; ++d) out[(ptrdiff_t)q * stride + d] = sums[d * SIDE + q];
    }
};

template <int LANES, int VECTORS>
INLINE void attend_block(const Work& w, const float* queries, const float* keys,
                         const float* values, int count, float* out) {
    const ptrdiff_t stride = w.stride();
    Block<LANES, VECTORS> block;
    block.read(queries, count, stride, w.depth, w.scale);
    for (int first = 0; first < w.tokens; first += TILE) {
        const int tile = std::min(TILE, w.tokens - first);
        block.score(keys + (ptrdiff_t)first * stride, tile, stride, w.depth);
        block.weigh(tile, w.depth);
        block.add(values + (ptrdiff_t)first * stride, tile, stride, w.depth);
    }
    block.write(count, w.heads * w.depth, w.depth, out);
}

// The queries of one part, all of one head of one window.
template <int LANES>
INLINE void attend_loops(const Work& w, size_t part) {
    const int blocks = (w.tokens + QUERIES - 1) / QUERIES;
    const int head = (int)(part / blocks) % w.heads, begin = (int)(part % blocks) * QUERIES;
    const ptrdiff_t window = (ptrdiff_t)(part / blocks) / w.heads;
    const float* own = w.qkv + window * w.tokens * w.stride() + head * w.depth;
    const float *keys = own + w.heads * w.depth, *values = keys + w.heads * w.depth;
    const int end = std::min(begin + QUERIES, w.tokens);
    for (int first = begin, count; first < end; first += count) {
        const float* queries = own + (ptrdiff_t)first * w.stride();
        float* out = w.out + ((window * w.tokens + first) * w.heads + head) * w.depth;
        count = std::min(end - first, 2 * LANES);
        if (count > LANES) attend_block<LANES, 2>(w, queries, keys, values, count, out);
        else attend_block<LANES, 1>(w, queries, keys, values, count, out);
    }
}

PER_PROCESSOR(attend, attend_loops<LANES>, (const Work& w, size_t part), (w, part))

void attend_part(void* work, size_t part) { attend(*static_cast<const Work*>(work), part); }

void compute(void* state, ort::Context* context) {
    const operators::Node& node = *static_cast<const operators::Node*>(state);
    const operators::Tensor qkv = operators::input(node, context, 0);
    int64_t side[5];
    for (int i = 0; i < 5; ++i) side[i] = std::max(qkv.sides[i], (int64_t)0);
    const int64_t windows = side[0], tokens = side[1], heads = side[3], depth = side[4];
    const int64_t sides[] = {windows, tokens, heads, depth};
    float* out = operators::output(node, context, sides, 4);
    const int64_t count = windows * tokens * heads * depth;
    if (!out || !count) return;
    if (qkv.rank != 5 || side[2] != 3 || depth % ROWS || depth > MOST_DEPTH || tokens > 1 << 20)
        return operators::refuse(out, count);
    Work work{qkv.floats(), out,         (int)tokens, (int)heads,
              (int)depth,   1 / std::sqrt((float)depth)};
    const size_t blocks = ((size_t)tokens + QUERIES - 1) / QUERIES;
    operators::in_parts(node, context, attend_part, (size_t)(windows * heads) * blocks, &work);
}

}  // namespace

const operators::Operator operators::ATTENTION = make("Attention", 1, -1, compute);
