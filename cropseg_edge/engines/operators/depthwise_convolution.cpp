// A 3x3 convolution of each channel by itself, zeros outside, as one operator of ONNX Runtime.
//
// ONNX Runtime's own is fast where channels come in blocks of 16. FADE's kernels have 25: it then
// writes nine copies of a channel and multiplies matrices of one row.

#include "../../fade/processors.h"
#include "operator.h"

#include <vector>

namespace {

struct Work {
    const float* image;   // [C, H, W]
    const float* weight;  // [C, 3, 3]
    const float* bias;    // [C]
    float* out;           // [C, H, W]
    int channels, height, width;
};

INLINE float at_border(const float* const* rows, const float* weight, float bias, int x,
                       int width) {
    for (int i = 0; i < 9; ++i) {
        const int from = x + i % 3 - 1;
        if (from >= 0 && from < width) bias += weight[i] * rows[i / 3][from];
    }
    return bias;
}

INLINE void convolve_row(const float* const* rows, const float* __restrict w, float bias, int width,
                         float* __restrict out) {
    const float *above = rows[0], *same = rows[1], *below = rows[2];
    for (int x = 1; x < width - 1; ++x)
        out[x] = bias + (w[0] * above[x - 1] + w[1] * above[x] + w[2] * above[x + 1]) +
                 (w[3] * same[x - 1] + w[4] * same[x] + w[5] * same[x + 1]) +
                 (w[6] * below[x - 1] + w[7] * below[x] + w[8] * below[x + 1]);
    out[0] = at_border(rows, w, bias, 0, width);
    out[width - 1] = at_border(rows, w, bias, width - 1, width);
}

INLINE void convolve_loops(const Work& w, int channel) {
    const std::vector<float> outside(w.width);
    const ptrdiff_t size = (ptrdiff_t)w.height * w.width;
    const float* image = w.image + channel * size;
    for (int y = 0; y < w.height; ++y) {
        const float* same = image + (ptrdiff_t)y * w.width;
        const float* rows[] = {y > 0 ? same - w.width : outside.data(), same,
                               y + 1 < w.height ? same + w.width : outside.data()};
        convolve_row(rows, w.weight + 9 * channel, w.bias[channel], w.width,
                     w.out + channel * size + (ptrdiff_t)y * w.width);
    }
}

PER_PROCESSOR(convolve, convolve_loops, (const Work& w, int channel), (w, channel))

void convolve_part(void* work, size_t channel) {
    convolve(*static_cast<const Work*>(work), (int)channel);
}

void compute(void* state, ort::Context* context) {
    const operators::Node& node = *static_cast<const operators::Node*>(state);
    operators::Tensor in[3];
    for (size_t at = 0; at < 3; ++at) in[at] = operators::input(node, context, at);
    int64_t sides[4], count = 1;
    for (int i = 0; i < 4; ++i) count *= sides[i] = std::max(in[0].sides[i], (int64_t)0);
    float* out = operators::output(node, context, sides, 4);
    if (!out || !count) return;
    const int64_t *weight = in[1].sides, channels = sides[1];
    if (in[0].rank != 4 || in[1].rank != 4 || in[2].rank != 1 || sides[0] != 1 ||
        weight[0] != channels || weight[1] != 1 || weight[2] != 3 || weight[3] != 3 ||
        in[2].sides[0] != channels)
        return operators::refuse(out, count);
    Work work{in[0].floats(), in[1].floats(), in[2].floats(), out,
              (int)channels,  (int)sides[2],  (int)sides[3]};
    operators::in_parts(node, context, convolve_part, (size_t)channels, &work);
}

}  // namespace

const operators::Operator operators::DEPTHWISE_CONVOLUTION =
    make("DepthwiseConvolution", 3, -1, compute);
