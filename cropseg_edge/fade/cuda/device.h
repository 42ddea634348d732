// What a kernel needs of its machine, for CUDA (nvcc or NVRTC, no headers) and for a host compiler.
//
// A kernel's body is a function of a Block. Inside it, each_thread runs a step for every thread of
// the block and ends at a barrier: one thread a thread on a GPU, a loop on the host. What a thread
// keeps from one step to the next lies in its State.

#pragma once

constexpr int THREADS = 128;

struct Block {
    int x, y, z;
};

// Half-precision storage; arithmetic is float everywhere.
struct alignas(2) Half {
    unsigned short bits;
};

#if defined(__CUDACC__)

#define CODE static __device__ __forceinline__
#define SHARED __shared__
#define KERNEL(name, blocks_per_processor, body, ...)                                         \
    extern "C" __global__ void __launch_bounds__(THREADS, blocks_per_processor)               \
        name(__VA_ARGS__) {                                                                   \
        const Block block{(int)blockIdx.x, (int)blockIdx.y, (int)blockIdx.z};                 \
        (void)block;                                                                          \
        body;                                                                                 \
    }

template <class State>
struct Threads {
    State own;
};

template <class State, class Step>
CODE void each_thread(Threads<State>& threads, Step step) {
    step((int)threadIdx.x, threads.own);
    __syncthreads();
}

CODE float to_float(Half value) {
    float result;
    asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(value.bits));
    return result;
}

CODE Half to_half(float value) {
    Half result;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(result.bits) : "f"(value));
    return result;
}

CODE float power_of_2(float exponent) {  // to 2^-22 relative; below 2^-126 it is zero
    float result;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(exponent));
    return result;
}

CODE void set_bits(int* word, int bits) {
    if (bits & ~*(volatile int*)word) atomicOr(word, bits);
}

#else

#include <cmath>

#define CODE static inline
#define SHARED
#define KERNEL(name, blocks_per_processor, body, ...)                               \
    extern "C" void name(int grid_x, int grid_y, int grid_z, __VA_ARGS__) {          \
        for (int z = 0; z < grid_z; ++z)                                            \
            for (int y = 0; y < grid_y; ++y)                                        \
                for (int x = 0; x < grid_x; ++x) {                                  \
                    const Block block{x, y, z};                                     \
                    (void)block;                                                    \
                    body;                                                           \
                }                                                                   \
    }

template <class State>
struct Threads {
    State states[THREADS];
};

template <class State, class Step>
CODE void each_thread(Threads<State>& threads, Step step) {
    for (int thread = 0; thread < THREADS; ++thread) step(thread, threads.states[thread]);
}

CODE float to_float(Half value) {
    const int exponent = value.bits >> 10 & 31, mantissa = value.bits & 1023;
    const float size = exponent == 0    ? std::ldexp((float)mantissa, -24)
                       : exponent == 31 ? (mantissa ? NAN : INFINITY)
                                        : std::ldexp((float)(1024 + mantissa), exponent - 25);
    return value.bits & 0x8000 ? -size : size;
}

CODE Half to_half(float value) {
    const unsigned short sign = std::signbit(value) ? 0x8000 : 0;
    const float size = std::fabs(value);
    if (std::isnan(value)) return {0x7fff};
    if (size >= 65520.0f) return {(unsigned short)(sign | 0x7c00)};
    int exponent = -13;
    if (size > 0) std::frexp(size, &exponent);  // size = m * 2^exponent, 0.5 <= m < 1
    exponent = exponent < -13 ? -13 : exponent;
    const int steps = (int)std::nearbyint(std::ldexp(size, 11 - exponent));  // of 2^(exponent - 11)
    return {(unsigned short)(sign | (((exponent + 13) << 10) + steps))};
}

CODE float power_of_2(float exponent) { return std::exp2(exponent); }

CODE void set_bits(int* word, int bits) { *word |= bits; }

#endif

CODE float to_float(float value) { return value; }
CODE void store(float* to, float value) { *to = value; }
CODE void store(Half* to, float value) { *to = to_half(value); }

// `count` values that one instruction moves.
template <class T, int count>
struct alignas(sizeof(T) * count) Pack {
    T values[count];
};

// True for numbers: not for NaN, not for infinities.
CODE bool is_finite(float value) { return value - value == 0.0f; }
