/* A convolution of real numbers, summed in double and rounded once. It reads the bytes of the image, through a table of
   what they mean, or the values that the convolution before it left. */
typedef struct {
    int size, channels, kernel, stride, out_channels;
    const float *meaning; /* (channels, 256), or NULL */
    const float *filters; /* (blocks, taps, LANES); of a tap the rows first, the channels last */
    const float *scale, *shift;
} real_of;

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
