/* A grouped 1-bit convolution with its residual. `width`: input channels of a filter and output channels of a group. */
typedef struct {
    signs_of signs;
    const float *values;
    int size, kernel, stride, dilation, padding, width, words;
    const uint32_t *filters;
    const float *scale, *shift;
} grouped_of;

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

/* The patch of a group, and where it is one at all; returns how many taps lie inside the image. */
static int gather_at_border(const grouped_of *p, int top, int left, int first)
{
    int line, column, start, at = 0, inside = 0;
    for (line = 0; line < p->kernel; ++line) {
        for (column = 0; column < p->kernel; ++column) {
            const int y = top + line * p->dilation, x = left + column * p->dilation;
            const int is_inside = y >= 0 && y < p->size && x >= 0 && x < p->size;
            inside += is_inside;
            for (start = 0; start < p->width; start += 32) {
                const int n = p->width - start < 32 ? p->width - start : 32;
                uint32_t bits = 0;
                if (is_inside) {
                    bits = read_signs(p->signs.words + y * p->signs.row + x, p->signs.plane, first + start, n);
                }
                append(patch, at, bits, n);
                append(mask, at, is_inside ? all_ones(n) : 0, n);
                at += n;
            }
        }
    }
    return inside;
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
        for (i = 0; i < n; ++i) {
            halved[i] = (((source[i] + source[channels + i]) + below[i]) + below[channels + i]) * 0.25f;
        }
        add_counts(counts, bits, p->scale + c, p->shift + c, halved, out + c, n, keep);
    }
}

static void add_grouped_row(const grouped_of *p, int y, int width, float *out, int keep)
{
    const int top = y * p->stride - p->padding, reach = (p->kernel - 1) * p->dilation;
    int x, first, c;
    for (x = 0; x < width; ++x, out += p->signs.channels) {
        const int left = x * p->stride - p->padding;
        const int is_inside = top >= 0 && left >= 0 && top + reach < p->size && left + reach < p->size;
        const uint32_t *filters = p->filters, *place = p->signs.words + (is_inside ? top * p->signs.row + left : 0);
        for (first = 0; first < p->signs.channels; first += p->width) {
            int taps = p->kernel * p->kernel;
            uint32_t counts[LANES];
            if (!is_inside) {
                taps = gather_at_border(p, top, left, first);
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
