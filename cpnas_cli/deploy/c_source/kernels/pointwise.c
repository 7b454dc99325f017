/* A 1-bit 1x1 convolution of images side by side. `first`: the row and column under the first result. `tail`: the last
   word has up to 8 bits, one in each of its nibbles (1), up to 16, two in each (2), or more, as they come (0). */
typedef struct {
    const signs_of *sources;
    int num_sources, stride, first, words, tail, inputs, channels;
    const uint32_t *filters;
    const float *scale, *shift;
} pointwise_of;

INLINE uint32_t spread(uint32_t bits, int tail)
{
    if (tail == 1) {
        bits = (bits | bits << 12) & 0x000f000fu;
        bits = (bits | bits << 6) & 0x03030303u;
        bits = (bits | bits << 3) & 0x11111111u;
    } else if (tail == 2) {
        bits = (bits | bits << 8) & 0x00ff00ffu;
        bits = (bits | bits << 4) & 0x0f0f0f0fu;
        bits = (bits | bits << 2) & 0x33333333u;
    }
    return bits;
}

INLINE void gather_signs(const pointwise_of *p, int y, int x, int words, int tail, uint32_t *bits)
{
    uint32_t word = 0, *next = bits;
    int s, start, filled = 0;
    if (p->num_sources == 1 && p->sources->words) {
        const uint32_t *place = p->sources->words + ((y * p->stride + p->first) * p->sources->row + x * p->stride + p->first);
        for (s = 0; s < words; ++s) {
            bits[s] = place[s * p->sources->plane];
        }
        bits[words - 1] = spread(bits[words - 1], tail);
        return;
    }
    for (s = 0; s < p->num_sources; ++s) {
        const signs_of *source = p->sources + s;
        const int place = (y * p->stride + p->first) * source->row + x * p->stride + p->first;
        for (start = 0; start < source->channels; start += 32) {
            const int n = source->channels - start < 32 ? source->channels - start : 32;
            const uint32_t own = source->words ? source->words[(start >> 5) * source->plane + place] : all_ones(n);
            word |= own << filled;
            filled += n;
            if (filled >= 32) {
                *next++ = word;
                filled -= 32;
                word = filled > 0 ? own >> (n - filled) : 0;
            }
        }
    }
    if (filled > 0) {
        *next = word;
    }
    bits[words - 1] = spread(bits[words - 1], tail);
}

#if WIDE
/* The statement for pixel 0, or for pixels 0 to 3, each with variables of its own: a loop over them is not unrolled by
   -O2, and would keep them in memory. */
#define EACH_PIXEL(statement) \
    do { \
        statement(0); \
        if (pixels == 4) { \
            statement(1); \
            statement(2); \
            statement(3); \
        } \
    } while (0)

/* Bits of a pixel in all lanes; where the processor does not load a word into all of them, they lie there so. */
#if VECTOR == 4
#define COPIES 4
#else
#define COPIES 1
#endif

INLINE vector_u differing(vector_u filter, const uint32_t *bits, int word)
{
#if COPIES > 1
    vector_u own;
    LOAD(own, bits + COPIES * word);
    return filter ^ own;
#else
    return filter ^ bits[word];
#endif
}


/* values[k] (+)= (agreeing - differing) * scale + shift, of a vector of filters and of one pixel or four. */
INLINE void add_pointwise_vector(const pointwise_of *p, const uint32_t *filters, int channel, const uint32_t *bits, int words,
                                 int tail, int pixels, float *out, int pixel, int keep)
{
    const int n = p->channels - channel < BLOCK ? p->channels - channel : BLOCK;
    vector_u filter, total0 = {0}, total1 = {0}, total2 = {0}, total3 = {0};
    real factor, added, value;
    int i;
#if defined(COUNT)
    (void)tail;
    for (i = 0; i < words; ++i) {
        LOAD(filter, filters + i * LANES);
#define COUNT_WORD(k) total##k += COUNT(differing(filter, bits, (k) * words + i))
        EACH_PIXEL(COUNT_WORD);
    }
#else
    /* in nibbles, which hold the counts of three words and a tail, then in bytes, of which two hold those of 12 */
    vector_u x, nibbles0, nibbles1, nibbles2, nibbles3, bytes0 = {0}, bytes1 = {0}, bytes2 = {0}, bytes3 = {0};
    const int full = words - (tail > 0);
    int begin = 0;
    do {
        const int end = begin + 3 < full ? begin + 3 : full;
        nibbles0 = nibbles1 = nibbles2 = nibbles3 = (vector_u){0};
        UNROLL for (i = begin; i < end; ++i) {
            LOAD(filter, filters + i * LANES);
#define COUNT_WORD(k) \
    x = differing(filter, bits, (k) * words + i); \
    x -= (x >> 1) & 0x55555555u; \
    nibbles##k += (x & 0x33333333u) + ((x >> 2) & 0x33333333u)
            EACH_PIXEL(COUNT_WORD);
        }
        begin = end;
        if (begin == full && tail) {
            LOAD(filter, filters + full * LANES);
#define COUNT_TAIL(k) \
    x = differing(filter, bits, (k) * words + full); \
    nibbles##k += tail == 1 ? x : (x & 0x11111111u) + ((x >> 1) & 0x11111111u)
            EACH_PIXEL(COUNT_TAIL);
        }
#define ADD_NIBBLES(k) bytes##k += (nibbles##k & 0x0f0f0f0fu) + ((nibbles##k >> 4) & 0x0f0f0f0fu)
        EACH_PIXEL(ADD_NIBBLES);
        if (begin == full || begin % 12 == 0) {
#define ADD_BYTES(k) \
    total##k += SUM_OF_HALVES((bytes##k + (bytes##k >> 8)) & 0x00ff00ffu); \
    bytes##k = (vector_u){0}
            EACH_PIXEL(ADD_BYTES);
        }
    } while (begin < full);
#endif
    LOAD(factor, p->scale + channel);
    LOAD(added, p->shift + channel);
    out += channel;
#define PUT(k) \
    value = __builtin_convertvector(p->inputs - 2 * (vector_i)total##k, real) * factor + added; \
    put(out + (k) * pixel, &value, n, keep)
    EACH_PIXEL(PUT);
}

/* One pixel or four of a row. */
INLINE void add_pointwise_pixels(const pointwise_of *p, int y, int x, int pixels, int words, int tail, float *out, int pixel,
                                 int keep)
{
    const uint32_t *filters = p->filters;
    int c, lane, k, i;
    for (k = 0; k < pixels; ++k) {
        uint32_t *bits = patch + COPIES * k * words;
        gather_signs(p, y, x + k, words, tail, bits);
        for (i = words - 1; COPIES > 1 && i >= 0; --i) {
            const vector_u copies = (vector_u){0} + bits[i];
            __builtin_memcpy(bits + COPIES * i, &copies, sizeof copies);
        }
    }
    out += x * pixel;
    for (c = 0; c < p->channels; c += LANES, filters += words * LANES) {
        for (lane = 0; lane < LANES && c + lane < p->channels; lane += VECTOR) {
            add_pointwise_vector(p, filters + lane, c + lane, patch, words, tail, pixels, out, pixel, keep);
        }
    }
}

static void add_pointwise_row(const pointwise_of *p, int y, int width, float *out, int pixel, int keep)
{
    int x, n;
    for (x = 0; x < width; x += n) {
        n = width - x >= 4 ? 4 : 1;
        if (n == 1) {
            add_pointwise_pixels(p, y, x, 1, p->words, p->tail, out, pixel, keep);
        } else if (p->words == 2 && p->tail == 1) { /* up to 40 inputs */
            add_pointwise_pixels(p, y, x, 4, 2, 1, out, pixel, keep);
        } else if (p->words == 3 && p->tail == 1) { /* up to 72 */
            add_pointwise_pixels(p, y, x, 4, 3, 1, out, pixel, keep);
        } else {
            add_pointwise_pixels(p, y, x, 4, p->words, p->tail, out, pixel, keep);
        }
    }
}
#else
INLINE void count_filters(const pointwise_of *p, const uint32_t *filters, uint32_t *counts)
{
    const int full = p->words - (p->tail == 1);
    int lane;
    count_differing(filters, patch, 0, full, counts);
    for (lane = 0; p->tail == 1 && lane < LANES; ++lane) { /* the sum of the nibbles, at most 8, in the highest one */
        counts[lane] += (filters[full * LANES + lane] ^ patch[full]) * 0x11111111u >> 28;
    }
}

static void add_pointwise_row(const pointwise_of *p, int y, int width, float *out, int pixel, int keep)
{
    int x, c;
    for (x = 0; x < width; ++x, out += pixel) {
        const uint32_t *filters = p->filters;
        uint32_t counts[LANES];
        gather_signs(p, y, x, p->words, p->tail, patch);
        for (c = 0; c + LANES <= p->channels; c += LANES, filters += p->words * LANES) {
            count_filters(p, filters, counts);
            add_counts(counts, p->inputs, p->scale + c, p->shift + c, 0, out + c, LANES, keep);
        }
        if (c < p->channels) {
            count_filters(p, filters, counts);
            add_counts(counts, p->inputs, p->scale + c, p->shift + c, 0, out + c, p->channels - c, keep);
        }
    }
}
#endif
