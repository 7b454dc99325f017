/* A grouped 1-bit convolution with its residual. `width`: input channels of a filter and output channels of a group. */
typedef struct {
    signs_of signs;
    const float *values;
    int size, kernel, stride, dilation, padding, width, words;
    const uint32_t *filters;
    const float *scale, *shift;
} grouped_of;

/* Puts bits into a patch; words are begun with their first bit. */
INLINE void append(uint32_t *patch, int at, uint32_t bits, int width)
{
    const int shift = at & 31;
    uint32_t *word = patch + (at >> 5);
    if (shift == 0) {
        *word = bits;
    } else {
        *word |= bits << shift;
        if (shift + width > 32) {
            word[1] = bits >> (32 - shift);
        }
    }
}

/* The `width` signs from channel `first` on, of the pixel at `place`. */
INLINE uint32_t read_signs(const uint32_t *place, int plane, int first, int width)
{
    const int shift = first & 31;
    const uint32_t *word = place + (first >> 5) * plane;
    uint32_t bits = *word >> shift;
    if (shift + width > 32) {
        bits |= word[plane] << (32 - shift);
    }
    return bits & all_ones(width);
}

/* The patch of a group whose taps all lie inside the image; `place`: of the first one. */
INLINE void gather(const grouped_of *p, const uint32_t *place, int first, int kernel, int width)
{
    int line, column, start, at = 0;
    for (line = 0; line < kernel; ++line) {
        for (column = 0; column < kernel; ++column) {
            const uint32_t *tap = place + (line * p->signs.row + column) * p->dilation;
            for (start = 0; start < width; start += 32) {
                const int n = width - start < 32 ? width - start : 32;
                append(patch, at, read_signs(tap, p->signs.plane, first + start, n), n);
                at += n;
            }
        }
    }
}

/* The taps of a filter that lie inside the image, from the first to before the end. */
typedef struct {
    int first, end;
} range;

INLINE range inside(int start, int size, int kernel, int dilation)
{
    range taps = {0, kernel};
    while (taps.first < kernel && start + taps.first * dilation < 0) {
        ++taps.first;
    }
    while (taps.end > taps.first && start + (taps.end - 1) * dilation >= size) {
        --taps.end;
    }
    return taps;
}

/* Sets bits in a patch of zeros. */
INLINE void set(uint32_t *words, int at, uint32_t bits, int width)
{
    const int shift = at & 31;
    uint32_t *word = words + (at >> 5);
    *word |= bits << shift;
    if (shift + width > 32) {
        word[1] |= bits >> (32 - shift);
    }
}

/* The patch of a group at the border; for the first group also the mask: where it is one. */
INLINE void gather_at_border(const grouped_of *p, int top, int left, range lines, range columns, int first, int width)
{
    int line, column, start, i;
    for (i = 0; i < p->words; ++i) {
        patch[i] = 0;
    }
    if (first == 0) {
        for (i = 0; i < p->words; ++i) {
            mask[i] = 0;
        }
    }
    for (line = lines.first; line < lines.end; ++line) {
        for (column = columns.first; column < columns.end; ++column) {
            const uint32_t *tap = p->signs.words + (top + line * p->dilation) * p->signs.row + left + column * p->dilation;
            int at = (line * p->kernel + column) * width;
            for (start = 0; start < width; start += 32) {
                const int n = width - start < 32 ? width - start : 32;
                set(patch, at, read_signs(tap, p->signs.plane, first + start, n), n);
                if (first == 0) {
                    set(mask, at, all_ones(n), n);
                }
                at += n;
            }
        }
    }
}

INLINE void add_residual_counts(const grouped_of *p, const uint32_t *counts, int bits, int y, int x, int c, float *out,
                                int n, int keep)
{
    const int channels = p->signs.channels;
    const float *source = p->values + (y * p->stride * p->size + x * p->stride) * channels + c;
    if (p->stride == 1) {
        add_counts(counts, bits, p->scale + c, p->shift + c, source, out + c, n, keep);
    } else {
        const float *below = source + p->size * channels;
        float halved[LANES];
        int i;
        for (i = 0; i < n; i += BLOCK) {
            real sum, other;
            LOAD(sum, source + i);
            LOAD(other, source + channels + i);
            sum += other;
            LOAD(other, below + i);
            sum += other;
            LOAD(other, below + channels + i);
            sum = (sum + other) * 0.25f;
            put(halved + i, &sum, BLOCK, 0);
        }
        add_counts(counts, bits, p->scale + c, p->shift + c, halved, out + c, n, keep);
    }
}

static void add_grouped_row(const grouped_of *p, int y, int width, float *out, int keep)
{
    const int top = y * p->stride - p->padding, reach = (p->kernel - 1) * p->dilation;
    const range lines = inside(top, p->size, p->kernel, p->dilation);
    int x, first, c;
    for (x = 0; x < width; ++x, out += p->signs.channels) {
        const int left = x * p->stride - p->padding;
        const int is_inside = top >= 0 && left >= 0 && top + reach < p->size && left + reach < p->size;
        const range columns = inside(left, p->size, p->kernel, p->dilation);
        const int taps = (lines.end - lines.first) * (columns.end - columns.first);
        const uint32_t *filters = p->filters, *place = p->signs.words + (is_inside ? top * p->signs.row + left : 0);
        for (first = 0; first < p->signs.channels; first += p->width) {
            uint32_t counts[LANES];
            if (!is_inside && p->width == 16) {
                gather_at_border(p, top, left, lines, columns, first, 16);
            } else if (!is_inside) {
                gather_at_border(p, top, left, lines, columns, first, p->width);
            } else if (p->width == 16 && p->kernel == 3) {
                gather(p, place, first, 3, 16);
            } else if (p->width == 16 && p->kernel == 5) {
                gather(p, place, first, 5, 16);
            } else if (p->width == 8 && p->kernel == 3) {
                gather(p, place, first, 3, 8);
            } else if (p->width == 8 && p->kernel == 5) {
                gather(p, place, first, 5, 8);
            } else {
                gather(p, place, first, p->kernel, p->width);
            }
            for (c = first; c < first + p->width; c += LANES, filters += p->words * LANES) {
                const int n = first + p->width - c < LANES ? first + p->width - c : LANES;
                if (is_inside) {
                    count_differing(filters, patch, 0, p->words, counts);
                } else {
                    count_differing(filters, patch, mask, p->words, counts);
                }
                if (n == LANES) {
                    add_residual_counts(p, counts, taps * p->width, y, x, c, out, LANES, keep);
                } else {
                    add_residual_counts(p, counts, taps * p->width, y, x, c, out, n, keep);
                }
            }
        }
    }
}
