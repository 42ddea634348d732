// Tensor cores: a warp's 32 threads multiply matrices of halves together, with float32 sums.
//
// Each thread holds a part of every matrix, as PTX has it for mma.m16n8k8 (Turing and later):
// thread 4 * g + t of the warp has rows g and g + 8, columns 2t and 2t + 1. On the host one call
// does the work of all threads; so these operations stand between the steps of each_thread, never
// inside one.

#pragma once

#include "device.h"

constexpr int WARP = 32;

struct Lane {
    int warp, g, t;
};

CODE Lane lane_of(int thread) {
    const unsigned i = thread;
    return {(int)(i / WARP), (int)(i % WARP / 4), (int)(i % 4)};
}

using Pair = unsigned;  // two halves, the first in the lower bits

CODE Pair pair_of(Half first, Half second) { return first.bits | (Pair)second.bits << 16; }

// Bits 15 and 31 are set where that half is a NaN or an infinity; the other bits mean nothing.
constexpr Pair MARKS = 0x80008000u;
CODE Pair non_finite(Pair pair) { return (pair & 0x7fff7fffu) + 0x04000400u; }

// The pair with some finite number in the place of NaN and infinities: half of their exponent.
CODE Pair made_finite(Pair pair) { return pair & ~(non_finite(pair) >> 1 & 0x40004000u); }

// What one thread brings to `multiply`, sum[16 x 8] += a[16 x 8 PARTS] * b[8 PARTS x 8], for one
// part or two: of a and b, parts of 8 columns and 8 rows, one after another.
struct Product {
    float* sum;     // (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1)
    const Pair* a;  // (g, 2t and 2t + 1), (g + 8, 2t and 2t + 1)
    const Pair* b;  // (2t and 2t + 1, g)
};

#if defined(__CUDACC__)

// A step for every thread that touches nothing of the others': no barrier.
template <class State, class Step>
CODE void each_alone(Threads<State>& threads, Step step) {
    step((int)threadIdx.x, threads.own);
}

// Whether `test` is true of any thread of the block; a barrier.
template <class State, class Test>
CODE bool any_thread(Threads<State>& threads, Test test) {
    return __syncthreads_or(test(threads.own));
}

// Four 8 x 8 matrices from shared memory into State::matrices: row(warp, matrix, i) is the address
// of a matrix's row i, 16 bytes and a multiple of that. A thread gets of each matrix the pair
// (g, 2t and 2t + 1), or (2t and 2t + 1, g) of a transposed one.
template <bool transposed, class State, class Row>
CODE void load_matrices(Threads<State>& threads, Row row) {
    const unsigned i = threadIdx.x;
    const unsigned address =
        (unsigned)__cvta_generic_to_shared(row((int)(i / WARP), (int)(i % WARP / 8), (int)(i % 8)));
    Pair(&to)[4] = threads.own.matrices;
    if (transposed)
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                     : "r"(address)
                     : "memory");
    else
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                     : "r"(address)
                     : "memory");
}

CODE void multiply_part(float* sum, Pair upper, Pair lower, Pair b) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 "
        "{%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(upper), "r"(lower), "r"(b));
}

template <int PARTS, class State, class Own>
CODE void multiply(Threads<State>& threads, Own own) {
    const Product p = own(threads.own);
#if __CUDA_ARCH__ >= 800
    if constexpr (PARTS == 2) {
        asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
            "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
            : "+f"(p.sum[0]), "+f"(p.sum[1]), "+f"(p.sum[2]), "+f"(p.sum[3])
            : "r"(p.a[0]), "r"(p.a[1]), "r"(p.a[2]), "r"(p.a[3]), "r"(p.b[0]), "r"(p.b[1]));
        return;
    }
#endif
#pragma unroll
    for (int i = 0; i < PARTS; ++i) multiply_part(p.sum, p.a[2 * i], p.a[2 * i + 1], p.b[i]);
}

#else

#include <cstring>

template <class State, class Step>
CODE void each_alone(Threads<State>& threads, Step step) {
    each_thread(threads, step);
}

template <class State, class Test>
CODE bool any_thread(Threads<State>& threads, Test test) {
    bool any = false;
    for (State& state : threads.states) any |= test(state);
    return any;
}

template <bool transposed, class State, class Row>
CODE void load_matrices(Threads<State>& threads, Row row) {
    for (int thread = 0; thread < THREADS; ++thread) {
        const Lane lane = lane_of(thread);
        for (int matrix = 0; matrix < 4; ++matrix) {
            const auto half = [&](int y, int x) {
                Half value;
                std::memcpy(&value, (const char*)row(lane.warp, matrix, y) + 2 * x, 2);
                return value;
            };
            const int g = lane.g, pair = 2 * lane.t;
            threads.states[thread].matrices[matrix] =
                transposed ? pair_of(half(pair, g), half(pair + 1, g))
                           : pair_of(half(g, pair), half(g, pair + 1));
        }
    }
}

CODE float half_of(Pair pair, int which) {
    return to_float(Half{(unsigned short)(pair >> 16 * which)});
}

template <int PARTS, class State, class Own>
CODE void multiply(Threads<State>& threads, Own own) {
    for (int first = 0; first < THREADS; first += WARP) {
        float a[16][8 * PARTS], b[8 * PARTS][8];
        for (int lane = 0; lane < WARP; ++lane) {
            const Product p = own(threads.states[first + lane]);
            for (int i = 0; i < 2 * PARTS; ++i) {
                const int g = lane / 4, k = i / 2 * 8 + lane % 4 * 2 + i % 2;
                a[g][k] = half_of(p.a[i / 2 * 2], i % 2);
                a[g + 8][k] = half_of(p.a[i / 2 * 2 + 1], i % 2);
                b[k][g] = half_of(p.b[i / 2], i % 2);
            }
        }
        for (int lane = 0; lane < WARP; ++lane) {
            const Product p = own(threads.states[first + lane]);
            for (int i = 0; i < 4; ++i)
                for (int k = 0; k < 8 * PARTS; ++k)
                    p.sum[i] += a[lane / 4 + i / 2 * 8][k] * b[k][lane % 4 * 2 + i % 2];
        }
    }
}

#endif
