// PER_PROCESSOR: loops that the compiler turns into vector code for each family of processors.

#pragma once

#define INLINE static inline __attribute__((always_inline))

// Whether lanes of vectors can be permuted by other vectors (__builtin_shuffle).
#if defined(__GNUC__) && !defined(__clang__)
#define PERMUTES 1
#else
#define PERMUTES 0
#endif

#define WITH_LANES(count, loops, arguments)                            \
    {                                                                  \
        [[maybe_unused]] constexpr int LANES = PERMUTES ? (count) : 4; \
        loops arguments;                                               \
    }

// Makes the function `name` from `loops`, compiled for three families, chosen when it runs. `loops`
// may name LANES, how many floats a vector of the family holds.
// (GCC's target_clones takes arch= names for one maker's processors, and AVX2 without FMA.)
#if defined(__x86_64__) && defined(__GNUC__)
#define PER_PROCESSOR(name, loops, parameters, arguments)                                \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"))) void          \
        name##_avx512 parameters WITH_LANES(16, loops, arguments)                        \
    __attribute__((target("avx2,fma"))) void name##_avx2 parameters                      \
        WITH_LANES(8, loops, arguments)                                                  \
    void name parameters {                                                               \
        if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&  \
            __builtin_cpu_supports("avx512vl"))                                          \
            return name##_avx512 arguments;                                              \
        if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))             \
            return name##_avx2 arguments;                                                \
        WITH_LANES(4, loops, arguments)                                                  \
    }
#else
#define PER_PROCESSOR(name, loops, parameters, arguments) \
    void name parameters WITH_LANES(4, loops, arguments)
#endif
