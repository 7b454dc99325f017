/* A convolution of real numbers, summed in double and rounded once. It reads the bytes of the image, through a table of
   what they mean, or the values that the convolution before it left. */
typedef struct {
    int size, channels, kernel, stride, out_channels;
    const float *meaning; /* (channels, 256), or NULL */
    const float *filters; /* (blocks, taps, LANES); of a tap the rows first, the channels last */
    const float *scale, *shift;
} real_of;

#if WIDE
#if defined(__AVX512F__) && LANES >= 8
#define DOUBLES 8
#elif defined(__AVX__)
#define DOUBLES 4
#else
#define DOUBLES 2
#endif
typedef double doubles __attribute__((vector_size(8 * DOUBLES)));
typedef float singles __attribute__((vector_size(4 * DOUBLES)));

/* a + b * c: a product of two floats fits a double, so it is rounded once with or without FMA. */
#if defined(__AVX512F__) && DOUBLES == 8
#define ADD_PRODUCT(a, b, c) ((doubles)_mm512_fmadd_pd((__m512d)(b), _mm512_set1_pd(c), (__m512d)(a)))
#elif defined(__FMA__) && DOUBLES == 4
#define ADD_PRODUCT(a, b, c) ((doubles)_mm256_fmadd_pd((__m256d)(b), _mm256_set1_pd(c), (__m256d)(a)))
#else
#define ADD_PRODUCT(a, b, c) ((a) + (b) * (c))
#endif

/* What a filter reads at one place; beyond the image zeros, which change no sum. */
static void gather_reals(const real_of *p, const uint8_t *image, const float *values, int y, int x, double *reals)
{
    const int reach = p->kernel / 2;
    int line, column, k;
    for (line = 0; line < p->kernel; ++line) {
        const int row = y * p->stride + line - reach;
        for (column = 0; column < p->kernel; ++column, reals += p->channels) {
            const int place = x * p->stride + column - reach, pixel = (row * p->size + place) * p->channels;
            const int is_inside = row >= 0 && row < p->size && place >= 0 && place < p->size;
            for (k = 0; k < p->channels; ++k) {
                reals[k] = !is_inside ? 0.0 : p->meaning ? p->meaning[k * 256 + image[pixel + k]] : values[pixel + k];
            }
        }
    }
}

/* sums[pixel][lane] of one pixel or four. */
INLINE void multiply_reals(const double *reals, int taps, const float *filters, int pixels, float sums[][LANES])
{
    int lane, t;
    for (lane = 0; lane < LANES; lane += DOUBLES) {
        doubles s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0};
        singles rounded;
        for (t = 0; t < taps; ++t) {
            doubles weights;
            LOAD(rounded, filters + t * LANES + lane);
            weights = __builtin_convertvector(rounded, doubles);
            s0 = ADD_PRODUCT(s0, weights, reals[t]);
            if (pixels == 4) {
                s1 = ADD_PRODUCT(s1, weights, reals[taps + t]);
                s2 = ADD_PRODUCT(s2, weights, reals[2 * taps + t]);
                s3 = ADD_PRODUCT(s3, weights, reals[3 * taps + t]);
            }
        }
        rounded = __builtin_convertvector(s0, singles);
        __builtin_memcpy(sums[0] + lane, &rounded, sizeof rounded);
        if (pixels == 4) {
            rounded = __builtin_convertvector(s1, singles);
            __builtin_memcpy(sums[1] + lane, &rounded, sizeof rounded);
            rounded = __builtin_convertvector(s2, singles);
            __builtin_memcpy(sums[2] + lane, &rounded, sizeof rounded);
            rounded = __builtin_convertvector(s3, singles);
            __builtin_memcpy(sums[3] + lane, &rounded, sizeof rounded);
        }
    }
}

INLINE void real_pixels(const real_of *p, const uint8_t *image, const float *values, int y, int x, int pixels, float *out,
                        int rectifies)
{
    const int taps = p->kernel * p->kernel * p->channels;
    const real zero = {0};
    float sums[4][LANES];
    int c, i, k;
    for (k = 0; k < pixels; ++k) {
        gather_reals(p, image, values, y, x + k, reals_of_patch + k * taps);
    }
    for (c = 0; c < p->out_channels; c += LANES) {
        const int n = p->out_channels - c < LANES ? p->out_channels - c : LANES;
        multiply_reals(reals_of_patch, taps, p->filters + c * taps, pixels, sums);
        for (k = 0; k < pixels; ++k) {
            for (i = 0; i < n; i += BLOCK) {
                real value, factor, added;
                LOAD(value, sums[k] + i);
                LOAD(factor, p->scale + c + i);
                LOAD(added, p->shift + c + i);
                value = value * factor + added;
                value = rectifies ? SELECT(value > 0.0f, value, zero) : value;
                put(out + (x + k) * p->out_channels + c + i, &value, n - i < BLOCK ? n - i : BLOCK, 0);
            }
        }
    }
}

static void real_row(const real_of *p, const uint8_t *image, const float *values, int y, int width, float *out, int rectifies)
{
    int x, n;
    for (x = 0; x < width; x += n) {
        n = width - x >= 4 ? 4 : 1;
        if (n == 4) {
            real_pixels(p, image, values, y, x, 4, out, rectifies);
        } else {
            real_pixels(p, image, values, y, x, 1, out, rectifies);
        }
    }
}
#else
static void real_row(const real_of *p, const uint8_t *image, const float *values, int y, int width, float *out, int rectifies)
{
    const int reach = p->kernel / 2, taps = p->kernel * p->kernel * p->channels;
    int x, c, i, line, column, k;
    for (x = 0; x < width; ++x, out += p->out_channels) {
        for (c = 0; c < p->out_channels; c += LANES) {
            const int n = p->out_channels - c < LANES ? p->out_channels - c : LANES;
            const float *filters = p->filters + c * taps;
            double sums[LANES] = {0};
            for (line = 0; line < p->kernel; ++line) {
                const int row = y * p->stride + line - reach;
                for (column = 0; column < p->kernel; ++column) {
                    const int place = x * p->stride + column - reach;
                    const int pixel = (row * p->size + place) * p->channels;
                    if (row < 0 || row >= p->size || place < 0 || place >= p->size) {
                        filters += p->channels * LANES;
                        continue;
                    }
                    for (k = 0; k < p->channels; ++k, filters += LANES) {
                        const double value = p->meaning ? p->meaning[k * 256 + image[pixel + k]] : values[pixel + k];
                        for (i = 0; i < LANES; ++i) {
                            sums[i] += value * filters[i];
                        }
                    }
                }
            }
            for (i = 0; i < n; ++i) {
                const float value = (float)sums[i] * p->scale[c + i] + p->shift[c + i];
                out[c + i] = rectifies && !(value > 0.0f) ? 0.0f : value;
            }
        }
    }
}
#endif
