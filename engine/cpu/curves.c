// exp by its powers of two and a polynomial, tanh by a polynomial near 0 and by exp elsewhere, without branches, so that
// the loops over them are vectorised: compiled for AVX-512, for AVX2 with FMA and for the baseline. Coefficients:
// Cephes (S. L. Moshier), expf and tanhf.
#include "engine/cpu/curves.h"

#include "engine/cpu/vectors.h"

#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

// x = power ln 2 + r: the polynomial of r; *shifted has the power, a whole number, in its last bits.
INLINE float exp_reduced(float x, float *shifted)
{
    const float round = 12582912.0f; // 1.5 * 2^23
    *shifted = x * 1.44269504088896341f + round;
    float power = *shifted - round;
    float r = x - power * 0.693359375f - power * -2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    return p * r * r + r + 1;
}

INLINE float exp_of(float x)
{
    x = x > 88.0f ? 88.0f : x;
    x = x < -87.0f ? -87.0f : x;
    float shifted, p = exp_reduced(x, &shifted);
    uint32_t bits;
    memcpy(&bits, &shifted, 4);
    bits = (bits + 127) << 23; // 2^power
    float scale;
    memcpy(&scale, &bits, 4);
    return p * scale;
}

// Where the result has no exponent of its own it is 0; where it has none that is as large, infinite.
INLINE float exp_whole_of(float x)
{
    float y = x > 89.0f ? 89.0f : x;
    y = y < -88.0f ? -88.0f : y;
    float shifted, p = exp_reduced(y, &shifted);
    int32_t bits, half;
    memcpy(&bits, &shifted, 4);
    bits -= 0x4b400000; // the power, a whole number; its two halves have an exponent each
    half = bits >> 1;
    uint32_t low = (uint32_t)(half + 127) << 23, high = (uint32_t)(bits - half + 127) << 23;
    float a, b;
    memcpy(&a, &low, 4);
    memcpy(&b, &high, 4);
    return x < -87.33654f ? 0 : p * a * b;
}

INLINE float sigmoid_of(float x)
{
    return 1 / (1 + exp_of(-x));
}

INLINE float tanh_of(float x)
{
    float a = x < 0 ? -x : x, z = x * x;
    float p = -5.70498872745e-3f;
    p = p * z + 2.06390887954e-2f;
    p = p * z + -5.37397155531e-2f;
    p = p * z + 1.33314422036e-1f;
    p = p * z + -3.33332819422e-1f;
    float near = p * z * x + x, far = 1 - 2 / (exp_of(2 * a) + 1);
    far = x < 0 ? -far : far;
    return a < 0.625f ? near : far;
}

INLINE float relu_of(float x)
{
    return x < 0 ? 0 : x;
}

#define LANES 16

// What is left over at the end goes through the same vectors, in a place of its own.
#define EACH(name, target, function)                                                               \
    target static void name(float *x, size_t n)                                                    \
    {                                                                                              \
        float rest[LANES] = {0};                                                                   \
        size_t whole = n / LANES * LANES;                                                          \
        for (size_t i = 0; i < whole; i++)                                                         \
            x[i] = function(x[i]);                                                                 \
        if (whole == n)                                                                            \
            return;                                                                                \
        memcpy(rest, x + whole, (n - whole) * sizeof(*x));                                         \
        for (unsigned i = 0; i < LANES; i++)                                                       \
            rest[i] = function(rest[i]);                                                           \
        memcpy(x + whole, rest, (n - whole) * sizeof(*x));                                         \
    }

#define PLAIN __attribute__((noinline))
EACH(exp_plain, PLAIN, exp_whole_of)
EACH(relu_plain, PLAIN, relu_of)
EACH(sigmoid_plain, PLAIN, sigmoid_of)
EACH(tanh_plain, PLAIN, tanh_of)

#ifdef __x86_64__
#define AVX512 __attribute__((target("avx512f")))
#define AVX2 __attribute__((target("avx2,fma")))
EACH(exp_avx512, AVX512, exp_whole_of)
EACH(relu_avx512, AVX512, relu_of)
EACH(sigmoid_avx512, AVX512, sigmoid_of)
EACH(tanh_avx512, AVX512, tanh_of)
EACH(exp_avx2, AVX2, exp_whole_of)
EACH(relu_avx2, AVX2, relu_of)
EACH(sigmoid_avx2, AVX2, sigmoid_of)
EACH(tanh_avx2, AVX2, tanh_of)

#define CHOOSE(name)                                                                               \
    void curve_##name(float *x, size_t n)                                                          \
    {                                                                                              \
        enum vectors have = cpu_vectors();                                                         \
        if (have >= VECTORS_AVX512)                                                                \
            name##_avx512(x, n);                                                                   \
        else if (have >= VECTORS_AVX2)                                                             \
            name##_avx2(x, n);                                                                     \
        else                                                                                       \
            name##_plain(x, n);                                                                    \
    }
#else
#define CHOOSE(name)                                                                               \
    void curve_##name(float *x, size_t n)                                                          \
    {                                                                                              \
        name##_plain(x, n);                                                                        \
    }
#endif

CHOOSE(exp)
CHOOSE(relu)
CHOOSE(sigmoid)
CHOOSE(tanh)
