/* A convolution of whole numbers: its sums are exact in any order, as float32 as in int32. It reads the bytes of the
   image, through a table of what they mean, or the bytes that the convolution before it left. */
typedef struct {
    int size, channels, kernel, stride, out_channels;
    const int16_t *meaning; /* (channels, 256), or NULL */
    const int8_t *filters;  /* (blocks, taps, LANES); of a tap the rows first, the channels last */
    const float *scale, *shift;
} whole_of;

static void gather_steps(const whole_of *p, const uint8_t *image, int y, int x, step *steps)
{
    const int reach = p->kernel / 2, taps = p->kernel * p->channels;
    int line, column, c;
    for (line = 0; line < p->kernel; ++line, steps += taps) {
        const int row = y * p->stride + line - reach;
        for (column = 0; column < p->kernel; ++column) {
            const int place = x * p->stride + column - reach;
            step *own = steps + column * p->channels;
            const int is_inside = row >= 0 && row < p->size && place >= 0 && place < p->size;
            const uint8_t *pixel = image + (is_inside ? (row * p->size + place) * p->channels : 0);
            if (!is_inside) {
                for (c = 0; c < p->channels; ++c) {
                    own[c] = 0;
                }
            } else if (p->meaning) {
                for (c = 0; c < p->channels; ++c) {
                    own[c] = p->meaning[c * 256 + pixel[c]];
                }
            } else {
                for (c = 0; c < p->channels; ++c) {
                    own[c] = pixel[c];
                }
            }
        }
    }
}

/* sums[pixel][lane] of `pixels` patches. */
#if WIDE
static void widen(const int8_t *filters, int count)
{
    int i;
    for (i = 0; i < count; ++i) {
        wide_filters[i] = (float)filters[i];
    }
}

INLINE void multiply_vector(const step *steps, int taps, const float *filters, int pixels, float sums[][LANES], int lane)
{
    real s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0};
    int t;
    for (t = 0; t < taps; ++t) {
        real weights;
        LOAD(weights, filters + t * LANES + lane);
        s0 += weights * steps[t];
        if (pixels == 4) {
            s1 += weights * steps[taps + t];
            s2 += weights * steps[2 * taps + t];
            s3 += weights * steps[3 * taps + t];
        }
    }
    __builtin_memcpy(sums[0] + lane, &s0, sizeof s0);
    if (pixels == 4) {
        __builtin_memcpy(sums[1] + lane, &s1, sizeof s1);
        __builtin_memcpy(sums[2] + lane, &s2, sizeof s2);
        __builtin_memcpy(sums[3] + lane, &s3, sizeof s3);
    }
}

INLINE void multiply_steps(const step *steps, int taps, const float *filters, int pixels, float sums[][LANES])
{
    int lane;
    for (lane = 0; lane < LANES; lane += VECTOR) {
        multiply_vector(steps, taps, filters, pixels, sums, lane);
    }
}
#define FILTERS(p) wide_filters
#else
INLINE void multiply_steps(const step *steps, int taps, const int8_t *filters, int pixels, float sums[][LANES])
{
    int t, lane;
    (void)pixels;
    for (lane = 0; lane < LANES; ++lane) {
        const int8_t *filter = filters + lane;
        int32_t sum = 0;
        for (t = 0; t < taps; ++t) {
            sum += (int32_t)steps[t] * filter[t * LANES];
        }
        sums[0][lane] = (float)sum;
    }
}
#define FILTERS(p) (p)->filters
#endif

/* Some pixels of a row, as they are or (largest > 0) their ReLU in whole steps up to the largest, rounded to nearest,
   halves to even: adding 2^23 leaves no bits behind the point. */
INLINE void whole_pixels(const whole_of *p, const uint8_t *image, int y, int x, int pixels, float *out, uint8_t *out_steps,
                         float largest)
{
    const int taps = p->kernel * p->kernel * p->channels;
#if WIDE
    const real zero = {0}, limit = zero + largest;
#else
    const real zero = 0.0f, limit = largest;
#endif
    int c, i, k;
    for (k = 0; k < pixels; ++k) {
        gather_steps(p, image, y, x + k, steps_of_patch + k * taps);
    }
    for (c = 0; c < p->out_channels; c += LANES) {
        const int n = p->out_channels - c < LANES ? p->out_channels - c : LANES;
        float sums[4][LANES];
        multiply_steps(steps_of_patch, taps, FILTERS(p) + c * taps, pixels, sums);
        for (k = 0; k < pixels; ++k) {
            const int place = (x + k) * p->out_channels + c;
            for (i = 0; i < n; i += BLOCK) {
                const int wanted = n - i < BLOCK ? n - i : BLOCK;
                real value, factor, added;
                LOAD(value, sums[k] + i);
                LOAD(factor, p->scale + c + i);
                LOAD(added, p->shift + c + i);
                value = value * factor + added;
                if (largest > 0.0f) {
                    float steps[BLOCK];
                    int j;
                    value = SELECT(value > 0.0f, value, zero) * STEPS_OF_1;
                    value = SELECT(value < limit, value, limit);
                    value = (value + 8388608.0f) - 8388608.0f;
                    put(steps, &value, BLOCK, 0);
                    for (j = 0; j < wanted; ++j) {
                        out_steps[place + i + j] = (uint8_t)(int)steps[j];
                    }
                } else {
                    put(out + place + i, &value, wanted, 0);
                }
            }
        }
    }
}

static void whole_row(const whole_of *p, const uint8_t *image, int y, int width, float *out, uint8_t *out_steps, float largest)
{
    int x, n;
#if WIDE
    if (y == 0) {
        widen(p->filters, (p->out_channels + LANES - 1) / LANES * LANES * p->kernel * p->kernel * p->channels);
    }
#endif
    for (x = 0; x < width; x += n) {
        n = WIDE && width - x >= 4 ? 4 : 1;
        if (n == 4) {
            whole_pixels(p, image, y, x, 4, out, out_steps, largest);
        } else {
            whole_pixels(p, image, y, x, 1, out, out_steps, largest);
        }
    }
}
