/* A patch is what a filter reads at one place: signs as bits, 32 to a word, the channels of a tap side by side. Filters
   lie as (words, LANES): LANES of them are compared with a patch at once. */

#if WIDE
/* COUNT: of every lane its ones. */
#if defined(__AVX512VPOPCNTDQ__) && VECTOR == 16
#define COUNT(x) ((vector_u)_mm512_popcnt_epi32((__m512i)(x)))
#elif defined(__AVX512VPOPCNTDQ__) && defined(__AVX512VL__) && VECTOR == 8
#define COUNT(x) ((vector_u)_mm256_popcnt_epi32((__m256i)(x)))
#elif defined(__AVX512VPOPCNTDQ__) && defined(__AVX512VL__) && VECTOR == 4
#define COUNT(x) ((vector_u)_mm_popcnt_epi32((__m128i)(x)))
#endif

/* Of every lane the sum of its two halves, which are below 2^15. */
#if VECTOR == 4 && defined(__SSE2__)
#define SUM_OF_HALVES(x) ((vector_u)_mm_madd_epi16((__m128i)(x), _mm_set1_epi16(1)))
#elif VECTOR == 8
#define SUM_OF_HALVES(x) ((vector_u)_mm256_madd_epi16((__m256i)(x), _mm256_set1_epi16(1)))
#else
#define SUM_OF_HALVES(x) (((x) & 0xffffu) + ((x) >> 16))
#endif

#if HAS_GROUPED
/* Differing bits of a vector of filters, of those that are 1 in the mask, if there is one. */
INLINE void count_vector(const uint32_t *filters, const uint32_t *patch, const uint32_t *mask, int words, uint32_t *counts)
{
    vector_u total = {0};
    int i = 0;
    while (i < words) {
#if defined(COUNT)
        vector_u x;
        LOAD(x, filters + i * LANES);
        x ^= patch[i];
        if (mask) {
            x &= mask[i];
        }
        total += COUNT(x);
        ++i;
#else
        /* in bytes, which hold the counts of 31 words */
        const int end = i + 31 < words ? i + 31 : words;
        vector_u bytes = {0};
        for (; i < end; ++i) {
            vector_u x;
            LOAD(x, filters + i * LANES);
            x ^= patch[i];
            if (mask) {
                x &= mask[i];
            }
            x -= (x >> 1) & 0x55555555u;
            x = (x & 0x33333333u) + ((x >> 2) & 0x33333333u);
            bytes += (x + (x >> 4)) & 0x0f0f0f0fu;
        }
        bytes = (bytes & 0x00ff00ffu) + ((bytes >> 8) & 0x00ff00ffu);
        total += (bytes & 0xffffu) + (bytes >> 16);
#endif
    }
    __builtin_memcpy(counts, &total, sizeof total);
}

/* counts[i] = in how many bits filter i differs from the patch. */
INLINE void count_differing(const uint32_t *filters, const uint32_t *patch, const uint32_t *mask, int words, uint32_t *counts)
{
    int lane;
    for (lane = 0; lane < LANES; lane += VECTOR) {
        count_vector(filters + lane, patch, mask, words, counts + lane);
    }
}
#endif
#else

INLINE uint32_t nibbles(uint32_t x)
{
    x = x - ((x >> 1) & 0x55555555u);
    return (x & 0x33333333u) + ((x >> 2) & 0x33333333u);
}

INLINE uint32_t ones(uint32_t x)
{
#if defined(__GNUC__) && (defined(__POPCNT__) || defined(__riscv_zbb))
    return (uint32_t)__builtin_popcount(x);
#else
    x = nibbles(x);
    return (((x + (x >> 4)) & 0x0f0f0f0fu) * 0x01010101u) >> 24;
#endif
}

static void count_differing(const uint32_t *filters, const uint32_t *patch, const uint32_t *mask, int words, uint32_t *counts)
{
    int lane, i;
    for (lane = 0; lane < LANES; ++lane) {
        const uint32_t *filter = filters + lane;
        uint32_t total = 0;
        if (mask) {
            for (i = 0; i < words; ++i, filter += LANES) {
                total += ones((*filter ^ patch[i]) & mask[i]);
            }
        } else {
            for (i = 0; i + 2 < words; i += 3, filter += 3 * LANES) {
                /* three words at once: their sum and carry */
                const uint32_t a = filter[0] ^ patch[i], b = filter[LANES] ^ patch[i + 1];
                const uint32_t d = filter[2 * LANES] ^ patch[i + 2], e = a ^ b;
                total += ones(e ^ d) + 2 * ones((a & b) | (e & d));
            }
            for (; i < words; ++i, filter += LANES) {
                total += ones(*filter ^ patch[i]);
            }
        }
        counts[lane] = total;
    }
}
#endif

#if HAS_GROUPED || !WIDE /* the other ones have vectors of their own */
/* out (+)= (agreeing - differing) * scale + shift, then the residual if there is one. */
INLINE void add_counts(const uint32_t *counts, int bits, const float *scale, const float *shift, const float *residual,
                       float *out, int n, int keep)
{
    int i;
    for (i = 0; i < n; i += BLOCK) {
        real value, factor, added;
#if WIDE
        vector_i differing;
        LOAD(differing, counts + i);
        value = __builtin_convertvector(bits - 2 * differing, real);
#else
        value = (float)(bits - 2 * (int)counts[i]);
#endif
        LOAD(factor, scale + i);
        LOAD(added, shift + i);
        value = value * factor + added;
        if (residual) {
            LOAD(added, residual + i);
            value += added;
        }
        put(out + i, &value, n - i < BLOCK ? n - i : BLOCK, keep);
    }
}
#endif

INLINE uint32_t all_ones(int width)
{
    return 0xffffffffu >> (32 - width);
}

/* The signs of an image: words from a row and from a plane to the next; without words all are +1. */
typedef struct {
    const uint32_t *words;
    int row, plane, channels;
} signs_of;
