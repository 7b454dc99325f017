static void add_identity_row(const float *source, int channels, int width, float *out, int keep)
{
    int i;
    if (keep) {
        for (i = 0; i < width * channels; ++i) {
            out[i] += source[i];
        }
    } else {
        for (i = 0; i < width * channels; ++i) {
            out[i] = source[i];
        }
    }
}
