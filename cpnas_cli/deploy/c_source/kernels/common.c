/* Arithmetic is float32, every operation rounded on its own, as the network was evaluated: a fused multiply-add or
   another order would change bits. */
#if defined(__FAST_MATH__)
#error "compile without -ffast-math: it changes the network's numbers"
#endif
#if FLT_EVAL_METHOD != 0
#error "floats must be computed as float: on 32-bit x86 add -msse2 -mfpmath=sse"
#endif
#if INT_MAX < 2147483647
#error "an int must have 32 bits"
#endif

#if defined(__GNUC__)
#define INLINE static inline __attribute__((always_inline))
#else
#define INLINE static inline
#endif

/* Where the processor has vectors, filters are compared LANES at a time, and real values computed BLOCK at a time. */
#if defined(__GNUC__) && !defined(MODEL_NO_VECTORS) \
    && (defined(__SSE2__) || (defined(__ARM_NEON) && defined(__aarch64__)) || defined(__riscv_vector))
#define WIDE 1
#define BLOCK LANES
#else
#define WIDE 0
#define BLOCK 1
#endif
#if defined(__SSE2__) && !defined(MODEL_NO_VECTORS)
#include <immintrin.h>
#endif
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("fp-contract=off")
#if WIDE && defined(__OPTIMIZE__) && !defined(__OPTIMIZE_SIZE__)
#pragma GCC optimize("tree-vectorize", "vect-cost-model=dynamic")
#endif
#else
#pragma STDC FP_CONTRACT OFF
#endif

/* Calls that compute the channels from `c` on, in blocks; of the last one only `n` are wanted, but all are read: there
   is room for it behind the last value and the last constant. */
#define EACH_BLOCK(channels, call) \
    do { \
        int c = 0, n = BLOCK; \
        for (; c + BLOCK <= (channels); c += BLOCK) { \
            call; \
        } \
        if (BLOCK > 1 && c < (channels)) { \
            n = (channels) - c; \
            call; \
        } \
    } while (0)

/* out (+)= values; n is a constant but in a last block. */
INLINE void put(float *out, const float *values, int n, int keep)
{
    int i;
    if (keep) {
        for (i = 0; i < n; ++i) {
            out[i] += values[i];
        }
    } else {
        for (i = 0; i < n; ++i) {
            out[i] = values[i];
        }
    }
}

/* The signs of a row, each value with its channel's shift added: bit c % 32 of word c / 32 for channel c, 1 for +1.
   Planes of words lie one behind the other. */
INLINE uint32_t sign_bits(const float *values, const float *shift, int n)
{
    uint32_t bits = 0;
    int i = 0;
#if defined(__SSE2__) && !defined(MODEL_NO_VECTORS)
    for (; i + 4 <= n; i += 4) {
        __m128 v = _mm_loadu_ps(values + i);
        if (shift) {
            v = _mm_add_ps(v, _mm_loadu_ps(shift + i));
        }
        bits |= (uint32_t)_mm_movemask_ps(_mm_cmpge_ps(v, _mm_setzero_ps())) << i;
    }
#endif
    for (; i < n; ++i) {
        bits |= (uint32_t)((shift ? values[i] + shift[i] : values[i]) >= 0.0f) << i;
    }
    return bits;
}

static void pack_row(const float *values, const float *shift, int channels, int width, uint32_t *words, int plane)
{
    int word, x;
    for (word = 0; word * 32 < channels; ++word) {
        const int n = channels - word * 32 < 32 ? channels - word * 32 : 32;
        const float *own = shift ? shift + word * 32 : shift;
        for (x = 0; x < width; ++x) {
            const float *pixel = values + x * channels + word * 32;
            words[word * plane + x] = n == 32   ? sign_bits(pixel, own, 32)
                                      : n == 16 ? sign_bits(pixel, own, 16)
                                                : sign_bits(pixel, own, n);
        }
    }
}
