// Deformable attention as one operator of ONNX Runtime on the CPU.
//
// Zhu et al.: "Deformable DETR", ICLR 2021: a query's output is the sum, over a few points of each
// level, of softmax(logits) times the value sampled there bilinearly, zeros outside. Standard
// operators say it with GridSample over channels first: four transposes and a scalar loop. Tokens
// have a head's channels side by side, so that a corner of a sample is one vector.

#include "../../fade/approximate.h"
#include "../../fade/processors.h"
#include "operator.h"

#include <algorithm>
#include <cstring>
#include <vector>

namespace {

constexpr int QUERIES = 64;  // of one part

struct Work {
    const float* value;      // [S, heads * depth]
    const float* offsets;    // [Q, heads, levels, points, 2], in units where a level is 2 wide
    const float* logits;     // [Q, heads, levels, points]
    const float* reference;  // [Q, 2], (x, y) in [-1, 1]
    const int64_t* shapes;   // [levels, 2], height and width
    float* out;              // [Q, heads * depth]
    int queries, heads, depth, levels, points;
};

// Where and with what weight the taps of one query read: four corners each. Arrays of all heads'.
struct Taps {
    std::vector<float> numbers;
    std::vector<int32_t> rows;
    int count;  // heads * levels * points
    float *width, *height, *start, *attention, *weight;  // weight [4, count]
    float *x, *left, *right, *y, *above, *below;  // cells, and the shares of what is beside a place
    int32_t* row;  // [4, count], in floats from the first value of the tap's head

    explicit Taps(const Work& w) : count(w.heads * w.levels * w.points) {
        numbers.resize(14 * count), rows.resize(4 * count);
        width = numbers.data(), height = width + count, start = height + count;
        x = start + count, left = x + count, right = left + count;
        y = right + count, above = y + count, below = above + count;
        attention = below + count, weight = attention + count, row = rows.data();
        for (int i = 0; i < count; ++i) {
            const int level = i / w.points % w.levels;
            int64_t first = 0;
            for (int k = 0; k < level; ++k) first += w.shapes[2 * k] * w.shapes[2 * k + 1];
            height[i] = (float)w.shapes[2 * level], width[i] = (float)w.shapes[2 * level + 1];
            start[i] = (float)first;
        }
    }
};

// Softmax over each head's taps.
INLINE void weigh_taps(const float* __restrict logits, int heads, int taps,
                       float* __restrict weight) {
    for (int head = 0; head < heads; ++head) {
        const float* own = logits + head * taps;
        float highest = own[0];
        for (int i = 1; i < taps; ++i) highest = own[i] > highest ? own[i] : highest;
        for (int i = 0; i < taps; ++i) weight[head * taps + i] = own[i] - highest;
    }
    for (int i = 0; i < heads * taps; ++i) weight[i] = exp_negative(weight[i]);
    for (int head = 0; head < heads; ++head) {
        float* own = weight + head * taps;
        float sum = 0;
        for (int i = 0; i < taps; ++i) sum += own[i];
        for (int i = 0; i < taps; ++i) own[i] *= 1 / sum;
    }
}

INLINE float within(float x, float low, float high) {
    x = x > low ? x : low;  // NaN becomes low: no tap reads outside, its weight stays NaN
    return x < high ? x : high;
}

// The cell before each place on one axis, its share of the weight and the next one's; none outside.
INLINE void between(const float* __restrict offsets, float reference, const float* __restrict side,
                    int count, float* __restrict cell, float* __restrict own,
                    float* __restrict next) {
    for (int i = 0; i < count; ++i) {
        const float place = ((reference + 1 + offsets[2 * i]) * side[i] - 1) * 0.5f;
        const float at = (float)((int32_t)(within(place, -2, side[i] + 1) + 2) - 2);
        const float part = place - at;
        const float here = at < 0 ? 0.0f : 1.0f, there = at < -1 ? 0.0f : 1.0f;
        cell[i] = at;
        own[i] = (1 - part) * (at > side[i] - 1 ? 0.0f : here);
        next[i] = part * (at > side[i] - 2 ? 0.0f : there);
    }
}

INLINE void corner(const Taps& t, int right, int below, const float* __restrict share_x,
                   const float* __restrict share_y, int stride, float* __restrict weight,
                   int32_t* __restrict row) {
    for (int i = 0; i < t.count; ++i) {
        const float x = within(t.x[i] + right, 0, t.width[i] - 1);
        const float y = within(t.y[i] + below, 0, t.height[i] - 1);
        weight[i] = t.attention[i] * share_x[i] * share_y[i];
        row[i] = (int32_t)(t.start[i] + y * t.width[i] + x) * stride;
    }
}

INLINE void place_taps(const float* offsets, const float* reference, int stride, const Taps& t) {
    between(offsets, reference[0], t.width, t.count, t.x, t.left, t.right);
    between(offsets + 1, reference[1], t.height, t.count, t.y, t.above, t.below);
    const int n = t.count;
    corner(t, 0, 0, t.left, t.above, stride, t.weight, t.row);
    corner(t, 1, 0, t.right, t.above, stride, t.weight + n, t.row + n);
    corner(t, 0, 1, t.left, t.below, stride, t.weight + 2 * n, t.row + 2 * n);
    corner(t, 1, 1, t.right, t.below, stride, t.weight + 3 * n, t.row + 3 * n);
}

template <int DEPTH>
INLINE void sum_taps(const Work& w, const Taps& t, float* __restrict out) {
    typedef float Vector __attribute__((vector_size(DEPTH * sizeof(float))));
    const int taps = w.levels * w.points;
    for (int head = 0; head < w.heads; ++head) {
        const float* value = w.value + head * DEPTH;
        Vector sums[4] = {};  // one a corner: additions that do not wait for each other
        for (int i = head * taps; i < (head + 1) * taps; ++i)
            for (int corner = 0; corner < 4; ++corner) {
                Vector read;
                std::memcpy(&read, value + t.row[corner * t.count + i], sizeof read);
                sums[corner] += t.weight[corner * t.count + i] * read;
            }
        const Vector sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
        std::memcpy(out + head * DEPTH, &sum, sizeof sum);
    }
}

INLINE void sum_taps_of_any_depth(const Work& w, const Taps& t, float* __restrict out) {
    std::fill(out, out + w.heads * w.depth, 0.0f);
    for (int i = 0; i < t.count; ++i) {
        const int head = i / (w.levels * w.points) * w.depth;
        for (int at = i; at < 4 * t.count; at += t.count)
            for (int k = 0; k < w.depth; ++k)
                out[head + k] += t.weight[at] * w.value[t.row[at] + head + k];
    }
}

INLINE void attend_loops(const Work& w, int first, int last) {
    const int stride = w.heads * w.depth;
    const Taps taps(w);
    for (ptrdiff_t q = first; q < last; ++q) {
        weigh_taps(w.logits + q * taps.count, w.heads, w.levels * w.points, taps.attention);
        place_taps(w.offsets + q * taps.count * 2, w.reference + 2 * q, stride, taps);
        float* out = w.out + q * stride;
        if (w.depth == 8) sum_taps<8>(w, taps, out);
        else if (w.depth == 16) sum_taps<16>(w, taps, out);
        else if (w.depth == 32) sum_taps<32>(w, taps, out);
        else sum_taps_of_any_depth(w, taps, out);
    }
}

PER_PROCESSOR(attend, attend_loops, (const Work& w, int first, int last), (w, first, last))

void attend_part(void* work, size_t part) {
    const Work& w = *static_cast<const Work*>(work);
    const int first = (int)part * QUERIES;
    attend(w, first, std::min(first + QUERIES, w.queries));
}

bool fits(const operators::Tensor (&in)[5], int64_t heads) {
    for (const operators::Tensor& tensor : in)
        if (tensor.rank != 2) return false;
    const int64_t *value = in[0].sides, *offsets = in[1].sides, *logits = in[2].sides;
    const int64_t *reference = in[3].sides, queries = logits[0], levels = in[4].sides[0];
    if (heads < 1 || levels < 1 || in[4].sides[1] != 2) return false;
    int64_t cells = 0;
    for (int64_t i = 0; i < levels; ++i) {
        const int64_t* side = (const int64_t*)in[4].data + 2 * i;
        if (side[0] < 1 || side[1] < 1 || side[0] > 1 << 12 || side[1] > 1 << 12) return false;
        cells += side[0] * side[1];
    }
    return value[0] == cells && cells <= 1 << 24 &&  // rows are counted in float32
           value[1] > 0 && value[1] % heads == 0 && cells * value[1] < 1 << 30 &&
           logits[1] > 0 && logits[1] % (heads * levels) == 0 && logits[1] <= 1 << 20 &&
           offsets[0] == queries && offsets[1] == 2 * logits[1] && reference[0] == queries &&
           reference[1] == 2;
}

void compute(void* state, ort::Context* context) {
    const operators::Node& node = *static_cast<const operators::Node*>(state);
    operators::Tensor in[5];
    for (size_t at = 0; at < 5; ++at) in[at] = operators::input(node, context, at);
    const operators::Tensor &value = in[0], &logits = in[2], &shapes = in[4];
    const int64_t none = 0;
    const int64_t sides[] = {std::max(logits.sides[0], none), std::max(value.sides[1], none)};
    float* out = operators::output(node, context, sides, 2);
    if (!out) return;
    if (!fits(in, node.heads)) return operators::refuse(out, sides[0] * sides[1]);
    const int heads = (int)node.heads, levels = (int)shapes.sides[0];
    Work work{value.floats(), in[1].floats(), logits.floats(), in[3].floats(),
              (const int64_t*)shapes.data, out, (int)logits.sides[0], heads,
              (int)value.sides[1] / heads, levels, (int)logits.sides[1] / heads / levels};
    const size_t parts = ((size_t)work.queries + QUERIES - 1) / QUERIES;
    operators::in_parts(node, context, attend_part, parts, &work);
}

}  // namespace

constexpr int SHAPES = 4;
const operators::Operator operators::DEFORMABLE_ATTENTION[4] = {
    make("DeformableAttention1", 5, SHAPES, compute),
    make("DeformableAttention2", 5, SHAPES, compute),
    make("DeformableAttention3", 5, SHAPES, compute),
    make("DeformableAttention4", 5, SHAPES, compute),
};
