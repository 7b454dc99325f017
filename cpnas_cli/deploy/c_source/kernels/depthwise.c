/* A 1-bit depthwise convolution: the signs of its row, 32 channels at once. Digit d of the channels' counts of agreeing
   taps is the d-th word; a sign is +1 where the count is at least a threshold, which depends on how many taps lie inside
   the image: `which` names its digits, by that number. */
typedef struct {
    signs_of signs;
    int size, kernel, stride, dilation, padding, digits;
    const uint32_t *taps, *thresholds;
    const uint8_t *which;
} depthwise_of;

#define PARITY(a, b, c) ((a) ^ (b) ^ (c))
#define MAJORITY(a, b, c) (((a) & (b)) | ((c) & ((a) | (b))))

/* From 7, 9 or 25 words of taps to the 3, 4 or 5 digits of their count, and whether it is at least a threshold, whose
   digits lie negated: the carry of count + ~threshold + 1. Of one pixel, or of a vector of them. */
#define DIGITS(word, suffix) \
    INLINE void count_7##suffix(const word *x, word *count) \
    { \
        const word s0 = PARITY(x[0], x[1], x[2]), c0 = MAJORITY(x[0], x[1], x[2]); \
        const word s1 = PARITY(x[3], x[4], x[5]), c1 = MAJORITY(x[3], x[4], x[5]); \
        const word c2 = MAJORITY(s0, s1, x[6]); \
        count[0] = PARITY(s0, s1, x[6]); \
        count[1] = PARITY(c0, c1, c2); \
        count[2] = MAJORITY(c0, c1, c2); \
    } \
    INLINE void count_9##suffix(const word *x, word *count) \
    { \
        const word s0 = PARITY(x[0], x[1], x[2]), c0 = MAJORITY(x[0], x[1], x[2]); \
        const word s1 = PARITY(x[3], x[4], x[5]), c1 = MAJORITY(x[3], x[4], x[5]); \
        const word s2 = PARITY(x[6], x[7], x[8]), c2 = MAJORITY(x[6], x[7], x[8]); \
        const word c3 = MAJORITY(s0, s1, s2), s3 = PARITY(c0, c1, c2); \
        const word d0 = MAJORITY(c0, c1, c2), d1 = s3 & c3; \
        count[0] = PARITY(s0, s1, s2); \
        count[1] = s3 ^ c3; \
        count[2] = d0 ^ d1; \
        count[3] = d0 & d1; \
    } \
    INLINE void count_25##suffix(const word *x, word *count) \
    { \
        word p[3], q[3], r[3], k[3], rest[7], s2, m4, n4, s4, u8, t4, v8, w8; \
        count_7##suffix(x, p); \
        count_7##suffix(x + 7, q); \
        count_7##suffix(x + 14, r); \
        rest[0] = p[0], rest[1] = q[0], rest[2] = r[0]; \
        rest[3] = x[21], rest[4] = x[22], rest[5] = x[23], rest[6] = x[24]; \
        count_7##suffix(rest, k); \
        s2 = PARITY(p[1], q[1], r[1]), m4 = MAJORITY(p[1], q[1], r[1]); \
        n4 = s2 & k[1]; \
        s4 = PARITY(p[2], q[2], r[2]), u8 = MAJORITY(p[2], q[2], r[2]); \
        t4 = PARITY(k[2], m4, n4), v8 = MAJORITY(k[2], m4, n4); \
        w8 = s4 & t4; \
        count[0] = k[0]; \
        count[1] = s2 ^ k[1]; \
        count[2] = s4 ^ t4; \
        count[3] = PARITY(u8, v8, w8); \
        count[4] = MAJORITY(u8, v8, w8); \
    } \
    INLINE void at_least##suffix(const word *count, const uint32_t *threshold, int digits, int step, word *carry) \
    { \
        int d; \
        *carry = ~(count[0] ^ count[0]); \
        UNROLL for (d = 0; d < digits; ++d) { \
            *carry = MAJORITY(count[d], threshold[d * step], *carry); \
        } \
    }

DIGITS(uint32_t, )
#if WIDE
typedef uint32_t four_u __attribute__((vector_size(16)));
DIGITS(four_u, _4)
#if defined(__AVX2__)
typedef uint32_t eight_u __attribute__((vector_size(32)));
DIGITS(eight_u, _8)
#endif
#endif

INLINE void count_any(const uint32_t *x, int taps, uint32_t *count, int digits)
{
    int i, d;
    for (d = 0; d < digits; ++d) {
        count[d] = 0;
    }
    for (i = 0; i < taps; ++i) {
        uint32_t carry = x[i];
        for (d = 0; d < digits; ++d) {
            const uint32_t next = count[d] & carry;
            count[d] ^= carry;
            carry = next;
        }
    }
}

INLINE uint32_t depthwise_sign(const uint32_t *x, const uint32_t *threshold, int kernel, int digits, int step)
{
    uint32_t count[7], carry;
    if (kernel == 3) {
        count_9(x, count);
    } else if (kernel == 5) {
        count_25(x, count);
    } else {
        count_any(x, kernel * kernel, count, digits);
    }
    at_least(count, threshold, digits, step, &carry);
    return carry;
}

#if WIDE
/* Some pixels of a row at stride 1, from `lines` with zeros around them; of lines beyond the image no tap agrees. Near
   the border: `inside`, ones where a column lies in the image, and thresholds of each pixel, digit by digit. */
#define PIXELS(word, suffix) \
    INLINE void depthwise_pixels##suffix(const depthwise_of *p, const uint32_t *lines, int first, int end, \
                                         const uint32_t *taps, const uint32_t *threshold, int words, uint32_t *out, \
                                         int kernel, int digits, const uint32_t *inside) \
    { \
        const int length = p->size + 2 * p->padding; \
        word agree[25], count[5], carry; \
        int line, column, d; \
        UNROLL for (line = 0; line < kernel; ++line) { \
            UNROLL for (column = 0; column < kernel; ++column) { \
                const int tap = line * kernel + column; \
                agree[tap] = (word){0}; \
                if (line >= first && line < end) { \
                    LOAD(agree[tap], lines + (line * length + column * p->dilation)); \
                    agree[tap] ^= taps[tap * words]; \
                    if (inside) { \
                        word mask; \
                        LOAD(mask, inside + column * p->dilation); \
                        agree[tap] &= mask; \
                    } \
                } \
            } \
        } \
        if (kernel == 3) { \
            count_9##suffix(agree, count); \
        } else { \
            count_25##suffix(agree, count); \
        } \
        if (inside) { \
            carry = ~(count[0] ^ count[0]); \
            UNROLL for (d = 0; d < digits; ++d) { \
                word digit; \
                LOAD(digit, threshold + d * 8); \
                carry = MAJORITY(count[d], digit, carry); \
            } \
        } else { \
            at_least##suffix(count, threshold, digits, words, &carry); \
        } \
        __builtin_memcpy(out, &carry, sizeof carry); \
    }
PIXELS(four_u, _4)
#if defined(__AVX2__)
PIXELS(eight_u, _8)
#else
#define depthwise_pixels_8 depthwise_pixels_4
#endif

/* The taps of a row of the filter that lie inside the image, for a pixel. */
INLINE int columns_inside(const depthwise_of *p, int x, int kernel)
{
    int column, count = 0;
    for (column = 0; column < kernel; ++column) {
        const int place = x - p->padding + column * p->dilation;
        count += place >= 0 && place < p->size;
    }
    return count;
}

/* A row of at least four pixels; the last ones are computed twice where they fill no vector. From `left` to before
   `right` all columns lie inside the image. */
INLINE void depthwise_vectors(const depthwise_of *p, int place, int first, int end, const uint32_t *taps, int word, int words,
                              uint32_t *out, int width, int left, int right, int kernel, int digits)
{
    const int length = width + 2 * p->padding, step = sizeof(vector_u) > 16 && width >= 8 ? 8 : 4;
    const uint32_t *inside = padded_lines + kernel * length, *thresholds = p->thresholds + word;
    const uint32_t *threshold = thresholds + p->which[(end - first) * kernel] * digits * words;
    int line, x, i, d;
    for (line = first; line < end; ++line) {
        __builtin_memcpy(padded_lines + line * length + p->padding, p->signs.words + (place + line * p->dilation * p->signs.row),
                         sizeof *padded_lines * (unsigned)width);
    }
    for (x = 0; x < width; x += step) {
        const int at = x + step <= width ? x : width - step;
        const uint32_t *lines = padded_lines + at;
        uint32_t each[5 * 8];
        if (at >= left && at + step <= right) {
            if (step == 8) { /* never without AVX2 */
                depthwise_pixels_8(p, lines, first, end, taps, threshold, words, out + at, kernel, digits, 0);
            } else {
                depthwise_pixels_4(p, lines, first, end, taps, threshold, words, out + at, kernel, digits, 0);
            }
            continue;
        }
        for (i = 0; i < step; ++i) {
            const uint32_t *own = thresholds + p->which[(end - first) * columns_inside(p, at + i, kernel)] * digits * words;
            for (d = 0; d < digits; ++d) {
                each[d * 8 + i] = own[d * words];
            }
        }
        if (step == 8) {
            depthwise_pixels_8(p, lines, first, end, taps, each, words, out + at, kernel, digits, inside + at);
        } else {
            depthwise_pixels_4(p, lines, first, end, taps, each, words, out + at, kernel, digits, inside + at);
        }
    }
}

/* Zeros around the lines of a row, which stay, and which columns lie inside the image. */
INLINE void pad_lines(const depthwise_of *p)
{
    const int length = p->size + 2 * p->padding;
    int line, i;
    for (line = 0; line <= p->kernel; ++line) {
        uint32_t *begin = padded_lines + line * length;
        for (i = 0; i < p->padding; ++i) {
            begin[i] = begin[p->padding + p->size + i] = 0;
        }
    }
    for (i = 0; i < p->size; ++i) {
        padded_lines[p->kernel * length + p->padding + i] = 0xffffffffu;
    }
}
#endif

/* The pixels from `x` to before `end`, whose taps lie inside the image. */
INLINE void depthwise_inside(const depthwise_of *p, int place, const uint32_t *taps, const uint32_t *threshold, int words,
                             uint32_t *out, int x, int end, int kernel, int stride, int digits)
{
    for (; x < end; ++x) {
        const uint32_t *corner = p->signs.words + (place + x * stride);
        uint32_t agree[121];
        int line, column;
        for (line = 0; line < kernel; ++line) {
            for (column = 0; column < kernel; ++column) {
                const int tap = line * kernel + column;
                agree[tap] = corner[(line * p->signs.row + column) * p->dilation] ^ taps[tap * words];
            }
        }
        out[x] = depthwise_sign(agree, threshold, kernel, digits, words);
    }
}

INLINE void depthwise_border_pixel(const depthwise_of *p, int y, int x, int word, int words, uint32_t *out, int kernel,
                                   int digits)
{
    const int top = y * p->stride - p->padding, left = x * p->stride - p->padding;
    const uint32_t *taps = p->taps + word;
    uint32_t agree[121];
    int line, column, inside = 0, tap = 0;
    for (line = 0; line < kernel; ++line) {
        const int row = top + line * p->dilation, at = word * p->signs.plane + row * p->signs.row;
        for (column = 0; column < kernel; ++column, ++tap) {
            const int place = left + column * p->dilation;
            agree[tap] = 0;
            if (row >= 0 && row < p->size && place >= 0 && place < p->size) {
                ++inside;
                agree[tap] = p->signs.words[at + place] ^ taps[tap * words];
            }
        }
    }
    out[x] = depthwise_sign(agree, p->thresholds + p->which[inside] * digits * words + word, kernel, digits, words);
}

static void depthwise_at_border(const depthwise_of *p, int y, int x, int word, int words, uint32_t *out)
{
    if (p->kernel == 3) {
        depthwise_border_pixel(p, y, x, word, words, out, 3, 4);
    } else if (p->kernel == 5) {
        depthwise_border_pixel(p, y, x, word, words, out, 5, 5);
    } else {
        depthwise_border_pixel(p, y, x, word, words, out, p->kernel, p->digits);
    }
}

static void depthwise_row(const depthwise_of *p, int y, int width, uint32_t *out)
{
    const int words = (p->signs.channels + 31) / 32, reach = (p->kernel - 1) * p->dilation;
    const int top = y * p->stride - p->padding;
    int word, x, left = (p->padding + p->stride - 1) / p->stride, right = left, first = 0, end = p->kernel;
    while (first < p->kernel && top + first * p->dilation < 0) {
        ++first;
    }
    while (end > first && top + (end - 1) * p->dilation >= p->size) {
        --end;
    }
    while (right < width && right * p->stride - p->padding + reach < p->size) {
        ++right;
    }
#if WIDE
    if (p->stride == 1 && (p->kernel == 3 || p->kernel == 5) && width >= 4) {
        pad_lines(p);
        for (word = 0; word < words; ++word, out += width) {
            const int place = word * p->signs.plane + top * p->signs.row;
            if (p->kernel == 3) {
                depthwise_vectors(p, place, first, end, p->taps + word, word, words, out, width, left, right, 3, 4);
            } else {
                depthwise_vectors(p, place, first, end, p->taps + word, word, words, out, width, left, right, 5, 5);
            }
        }
        return;
    }
#endif
    if (left > width || first > 0 || end < p->kernel) {
        left = right = width;
    }
    for (word = 0; word < words; ++word, out += width) {
        const int place = word * p->signs.plane + top * p->signs.row - p->padding;
        const uint32_t *taps = p->taps + word;
        const uint32_t *threshold = p->thresholds + p->which[p->kernel * p->kernel] * p->digits * words + word;
        for (x = 0; x < left; ++x) {
            depthwise_at_border(p, y, x, word, words, out);
        }
        if (left == right) {
            /* none */
        } else if (p->kernel == 3) {
            depthwise_inside(p, place, taps, threshold, words, out, left, right, 3, p->stride, 4);
        } else if (p->kernel == 5) {
            depthwise_inside(p, place, taps, threshold, words, out, left, right, 5, p->stride, 5);
        } else {
            depthwise_inside(p, place, taps, threshold, words, out, left, right, p->kernel, p->stride, p->digits);
        }
        for (x = right; x < width; ++x) {
            depthwise_at_border(p, y, x, word, words, out);
        }
    }
}
