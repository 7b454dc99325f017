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

#if defined(__GNUC__) && !defined(__clang__)
/* gcc cannot see that bits are appended up to the end of an array, and vectors are read up to it, and warns. */
#pragma GCC diagnostic ignored "-Warray-bounds"
#endif
#if defined(__GNUC__)
#define INLINE static inline __attribute__((always_inline))
#else
#define INLINE static inline
#endif

/* Where the processor has vectors, real values are computed BLOCK at a time. */
#if defined(__GNUC__) && !defined(MODEL_NO_VECTORS) \
    && (defined(__SSE2__) || (defined(__ARM_NEON) && defined(__aarch64__)) || defined(__riscv_vector))
#define WIDE 1
#else
#define WIDE 0
#endif
#if defined(__SSE2__) && !defined(MODEL_NO_VECTORS)
#include <immintrin.h>
#endif
#if WIDE
/* What the processor computes at once, at most a block. */
#if defined(__AVX512F__) && LANES >= 16
#define VECTOR 16
#elif defined(__AVX2__) && LANES >= 8
#define VECTOR 8
#else
#define VECTOR 4
#endif
#define BLOCK VECTOR
typedef uint32_t vector_u __attribute__((vector_size(4 * VECTOR)));
typedef int32_t vector_i __attribute__((vector_size(4 * VECTOR)));
typedef float real __attribute__((vector_size(4 * VECTOR)));
typedef float four_f __attribute__((vector_size(16)));
#define LOAD(vector, from) __builtin_memcpy(&(vector), (from), sizeof(vector))
#define SELECT(condition, a, b) ((real)(((vector_i)(a) & (condition)) | ((vector_i)(b) & ~(condition))))
#if VECTOR == 16
#define LARGER(a, b) ((real)_mm512_max_ps((__m512)(a), (__m512)(b)))
#elif VECTOR == 8
#define LARGER(a, b) ((real)_mm256_max_ps((__m256)(a), (__m256)(b)))
#elif defined(__SSE2__)
#define LARGER(a, b) ((real)_mm_max_ps((__m128)(a), (__m128)(b)))
#endif
#else
#define BLOCK 1
typedef float real;
#define LOAD(value, from) ((value) = *(from))
#define SELECT(condition, a, b) ((condition) ? (a) : (b))
#endif
#if !defined(LARGER) /* a where it is larger, else b */
#define LARGER(a, b) SELECT((a) > (b), (a), (b))
#endif

/* In front of a loop of few turns, whose number is known: -O2 keeps it as it is. */
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 8 && WIDE
#define UNROLL _Pragma("GCC unroll 9")
#else
#define UNROLL
#endif

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("fp-contract=off")
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

/* out (+)= value, of a block or its first n channels. */
INLINE void put(float *out, const real *value, int n, int keep)
{
#if WIDE
    if (n == BLOCK) {
        real sum = *value;
        if (keep) {
            LOAD(sum, out);
            sum += *value;
        }
        __builtin_memcpy(out, &sum, sizeof sum);
    } else {
        float values[BLOCK];
        int i = 0;
        __builtin_memcpy(values, value, sizeof values);
        for (; i + 4 <= n; i += 4) {
            four_f sum;
            LOAD(sum, values + i);
            if (keep) {
                four_f before;
                LOAD(before, out + i);
                sum = before + sum;
            }
            __builtin_memcpy(out + i, &sum, sizeof sum);
        }
        for (; i < n; ++i) {
            out[i] = keep ? out[i] + values[i] : values[i];
        }
    }
#else
    (void)n;
    *out = keep ? *out + *value : *value;
#endif
}

/* The signs of a row, each value with its channel's shift added: bit c % 32 of word c / 32 for channel c, 1 for +1.
   Planes of words lie one behind the other. */
INLINE uint32_t sign_bits(const float *values, const float *shift, int n)
{
    uint32_t bits = 0;
    int i = 0;
#if defined(__AVX512F__) && !defined(MODEL_NO_VECTORS)
    for (; i + 16 <= n; i += 16) {
        __m512 v = _mm512_loadu_ps(values + i);
        if (shift) {
            v = _mm512_add_ps(v, _mm512_loadu_ps(shift + i));
        }
        bits |= (uint32_t)_mm512_cmp_ps_mask(v, _mm512_setzero_ps(), _CMP_GE_OQ) << i;
    }
#elif defined(__AVX__) && !defined(MODEL_NO_VECTORS)
    for (; i + 8 <= n; i += 8) {
        __m256 v = _mm256_loadu_ps(values + i);
        if (shift) {
            v = _mm256_add_ps(v, _mm256_loadu_ps(shift + i));
        }
        bits |= (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(v, _mm256_setzero_ps(), _CMP_GE_OQ)) << i;
    }
#endif
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
