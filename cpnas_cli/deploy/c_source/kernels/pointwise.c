/* A 1-bit 1x1 convolution of images side by side. `first`: the row and column under the first result. */
typedef struct {
    const signs_of *sources;
    int num_sources, stride, first, words, inputs, channels;
    const uint32_t *filters;
    const float *scale, *shift;
} pointwise_of;

static void add_pointwise_row(const pointwise_of *p, int y, int width, float *out, int pixel, int keep)
{
    int x, s, at, start, c;
    for (x = 0; x < width; ++x, out += pixel) {
        const uint32_t *filters = p->filters;
        uint32_t counts[LANES];
        at = 0;
        for (s = 0; s < p->num_sources; ++s) {
            const signs_of *source = p->sources + s;
            const int place = (y * p->stride + p->first) * source->row + x * p->stride + p->first;
            for (start = 0; start < source->channels; start += 32) {
                const int n = source->channels - start < 32 ? source->channels - start : 32;
                append(patch, at, source->words ? source->words[(start >> 5) * source->plane + place] : all_ones(n), n);
                at += n;
            }
        }
        for (c = 0; c + LANES <= p->channels; c += LANES, filters += p->words * LANES) {
            count_differing(filters, patch, 0, p->words, counts);
            add_counts(counts, p->inputs, p->scale + c, p->shift + c, 0, out + c, LANES, keep);
        }
        if (c < p->channels) {
            count_differing(filters, patch, 0, p->words, counts);
            add_counts(counts, p->inputs, p->scale + c, p->shift + c, 0, out + c, p->channels - c, keep);
        }
    }
}
