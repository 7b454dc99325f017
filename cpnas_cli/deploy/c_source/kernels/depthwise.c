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

/* The carry of count + ~threshold + 1: whether the count is at least the threshold, whose digits lie negated. */
INLINE uint32_t at_least(const uint32_t *count, const uint32_t *threshold, int digits, int step)
{
    uint32_t carry = 0xffffffffu;
    int d;
    for (d = 0; d < digits; ++d) {
        carry = MAJORITY(count[d], threshold[d * step], carry);
    }
    return carry;
}

/* 3x3: from the words of the taps to the four digits of their count. */
INLINE void count_9(const uint32_t *x, uint32_t *count)
{
    const uint32_t s0 = PARITY(x[0], x[1], x[2]), c0 = MAJORITY(x[0], x[1], x[2]);
    const uint32_t s1 = PARITY(x[3], x[4], x[5]), c1 = MAJORITY(x[3], x[4], x[5]);
    const uint32_t s2 = PARITY(x[6], x[7], x[8]), c2 = MAJORITY(x[6], x[7], x[8]);
    const uint32_t c3 = MAJORITY(s0, s1, s2), s3 = PARITY(c0, c1, c2);
    const uint32_t d0 = MAJORITY(c0, c1, c2), d1 = s3 & c3;
    count[0] = PARITY(s0, s1, s2);
    count[1] = s3 ^ c3;
    count[2] = d0 ^ d1;
    count[3] = d0 & d1;
}

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
    uint32_t count[7];
    if (kernel == 3) {
        count_9(x, count);
    } else {
        count_any(x, kernel * kernel, count, digits);
    }
    return at_least(count, threshold, digits, step);
}

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

static void depthwise_at_border(const depthwise_of *p, int y, int x, int word, int words, uint32_t *out)
{
    uint32_t agree[121];
    int line, column, inside = 0;
    for (line = 0; line < p->kernel; ++line) {
        for (column = 0; column < p->kernel; ++column) {
            const int tap = line * p->kernel + column;
            const int row = y * p->stride - p->padding + line * p->dilation;
            const int place = x * p->stride - p->padding + column * p->dilation;
            agree[tap] = 0;
            if (row >= 0 && row < p->size && place >= 0 && place < p->size) {
                ++inside;
                agree[tap] = p->signs.words[word * p->signs.plane + row * p->signs.row + place] ^ p->taps[tap * words + word];
            }
        }
    }
    out[x] = depthwise_sign(agree, p->thresholds + p->which[inside] * p->digits * words + word, p->kernel, p->digits, words);
}

static void depthwise_row(const depthwise_of *p, int y, int width, uint32_t *out)
{
    const int words = (p->signs.channels + 31) / 32, reach = (p->kernel - 1) * p->dilation;
    const int top = y * p->stride - p->padding, is_inside = top >= 0 && top + reach < p->size;
    int word, x, left = (p->padding + p->stride - 1) / p->stride, right = left;
    while (right < width && right * p->stride - p->padding + reach < p->size) {
        ++right;
    }
    if (!is_inside || left > width) {
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
        } else if (p->kernel == 3 && p->stride == 1) {
            depthwise_inside(p, place, taps, threshold, words, out, left, right, 3, 1, 4);
        } else if (p->kernel == 3) {
            depthwise_inside(p, place, taps, threshold, words, out, left, right, 3, 2, 4);
        } else if (p->kernel == 5 && p->stride == 1) {
            depthwise_inside(p, place, taps, threshold, words, out, left, right, 5, 1, 5);
        } else {
            depthwise_inside(p, place, taps, threshold, words, out, left, right, p->kernel, p->stride, p->digits);
        }
        for (x = right; x < width; ++x) {
            depthwise_at_border(p, y, x, word, words, out);
        }
    }
}
