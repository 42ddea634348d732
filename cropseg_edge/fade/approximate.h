// Floats by their bits, and an exponential that the compiler can turn into vector code.

#pragma once

#include "processors.h"

#include <cstdint>
#include <cstring>

INLINE float as_float(int32_t bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

INLINE int32_t as_bits(float value) {
    int32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

INLINE int32_t non_finite(float value) {
    return (as_bits(value) & 0x7f800000) == 0x7f800000 ? -1 : 0;
}

// e^x for x <= 0 to 2e-7 relative (Cephes polynomial); NaN stays NaN. libm's is not vectorised.
INLINE float exp_negative(float x) {
    x = x < -87.0f ? -87.0f : x;
    const float shifted = x * 1.44269504f + 12582912.0f;  // 1.5 * 2^23 rounds to an integer
    const float n = shifted - 12582912.0f;
    const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    const float power = as_float(as_bits(p) + (int32_t)((uint32_t)as_bits(shifted) << 23));
    return x == x ? power : x;  // the sum of bits may make a number of a NaN
}
