#include "engine/cpu/vectors.h"

#ifdef __x86_64__
enum vectors cpu_vectors(void)
{
    if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl"))
        return __builtin_cpu_supports("avx512vnni") ? VECTORS_VNNI : VECTORS_AVX512;
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? VECTORS_AVX2
                                                                           : VECTORS_PLAIN;
}
#else
enum vectors cpu_vectors(void)
{
    return VECTORS_PLAIN;
}
#endif
