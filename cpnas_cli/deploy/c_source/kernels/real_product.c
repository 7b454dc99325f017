/* A real 1x1 convolution of images side by side, summed in double and rounded once. */
typedef struct {
    const float *values; /* NULL: zeros */
    int size, channels;
} values_of;

typedef struct {
    const values_of *sources;
    int num_sources, stride, first, inputs, channels, rectifies;
    const float *filters, *scale, *shift;
} product_of;

static void add_product_row(const product_of *p, int y, int width, float *out, int pixel, int keep)
{
    int x, c, i, k, s;
    for (x = 0; x < width; ++x, out += pixel) {
        for (c = 0; c < p->channels; c += LANES) {
            const int n = p->channels - c < LANES ? p->channels - c : LANES;
            const float *filters = p->filters + c * p->inputs;
            double sums[LANES] = {0};
            for (s = 0; s < p->num_sources; ++s) {
                const values_of *source = p->sources + s;
                const int place = ((y * p->stride + p->first) * source->size + x * p->stride + p->first) * source->channels;
                if (!source->values) {
                    filters += source->channels * LANES;
                    continue;
                }
                for (k = 0; k < source->channels; ++k, filters += LANES) {
                    double value = source->values[place + k];
                    if (p->rectifies && !(value > 0.0)) {
                        value = 0.0;
                    }
                    for (i = 0; i < LANES; ++i) {
                        sums[i] += value * filters[i];
                    }
                }
            }
            for (i = 0; i < n; ++i) {
                const float result = (float)sums[i] * p->scale[c + i] + p->shift[c + i];
                out[c + i] = keep ? out[c + i] + result : result;
            }
        }
    }
}
