// FADE on an NVIDIA GPU: the kernels that cropseg_edge.fade.cuda launches.
//
// Lu, Liu, Fu, Cao: FADE, ECCV 2022 (arXiv 2207.10392), the steps after the kernel encoder; the
// equations are in fade/reference.py. Compiled by `python -m cropseg_edge.fade.cuda.compile`; a
// host compiler takes it as C++ too, which is how the tests run it. Parameters stand in
// kernels.py as well, and the tests compare the two.

#include "frame.h"
#include "tensor_nchw.h"
#include "tensor_nhwc.h"
#include "upsample.h"

#define INPUTS(T)                                                                             \
    const T *logits, const T *kernels_high, const T *kernels_low, const T *guide, const T *gate
#define SIZES int channels, int height, int width
#define GIVEN(T)                                                                              \
    (Inputs<T>{logits, kernels_high, kernels_low, guide, gate, channels, height, width})

// `end` of the names, for guides with S x S sub-pixels a pixel.
#define SUBPIXEL_KERNELS(T, type, end, S)                                                         \
    KERNEL(upsample_##type##_nchw##end, 3,                                                        \
           (planes::upsample<T, S>(block, GIVEN(T), out, chunk)),                                 \
           INPUTS(T), T* out, SIZES, int chunk)                                                   \
    KERNEL(upsample_##type##_nhwc##end, 4,                                                        \
           (channels_last::upsample<T, S>(block, GIVEN(T), out, chunk)),                          \
           INPUTS(T), T* out, SIZES, int chunk)                                                   \
    KERNEL(probabilities_##type##end, 4,                                                          \
           (class_probabilities<T, S>(block, GIVEN(T), out, status)),                             \
           INPUTS(T), float* out, int* status, SIZES)                                             \
    KERNEL(labels_##type##end, 4,                                                                 \
           (class_labels<T, S>(block, GIVEN(T), labels, confidence, status)),                     \
           INPUTS(T), Byte* labels, Byte* confidence, int* status, SIZES)

#define TYPE_KERNELS(T, type)                                                                     \
    SUBPIXEL_KERNELS(T, type, , 1)                                                                \
    SUBPIXEL_KERNELS(T, type, _s2, 2)                                                             \
    KERNEL(preprocess_##type, 4,                                                                  \
           letterbox(block,                                                                       \
                     Picture{image, height, width, halvings, area, inner_height, inner_width,     \
                             top, left, out_height, out_width, reverse},                          \
                     {scale_0, scale_1, scale_2}, {offset_0, offset_1, offset_2}, out),           \
           const Byte* image, int height, int width, int halvings, int area, int inner_height,    \
           int inner_width, int top, int left, int out_height, int out_width, int reverse,        \
           float scale_0, float scale_1, float scale_2, float offset_0, float offset_1,           \
           float offset_2, T* out)

TYPE_KERNELS(Half, f16)
TYPE_KERNELS(float, f32)

KERNEL(upsample_f16_nchw_tensor, 3, tensor_nchw::upsample(block, GIVEN(Half), out, chunk),
       INPUTS(Half), Half* out, SIZES, int chunk)
KERNEL(upsample_f16_nhwc_tensor, 4, tensor_nhwc::upsample(block, GIVEN(Half), out, chunk),
       INPUTS(Half), Half* out, SIZES, int chunk)

KERNEL(clear, 1, *status = 0, int* status)
KERNEL(check, 4, check_probabilities(block, probabilities, status, channels, plane),
       const float* probabilities, int* status, int channels, int plane)
KERNEL(conceal, 4, conceal_mask(block, labels, confidence, status, count),
       Byte* labels, Byte* confidence, const int* status, int count)
KERNEL(decode, 4,
       decode_mask(block,
                   Grid{probabilities, channels, grid_height, grid_width, x_scale, x_offset,
                        y_scale, y_offset},
                   labels, confidence, status, height, width),
       const float* probabilities, Byte* labels, Byte* confidence, const int* status,
       int channels, int grid_height, int grid_width, long long x_scale, long long x_offset,
       long long y_scale, long long y_offset, int height, int width)
