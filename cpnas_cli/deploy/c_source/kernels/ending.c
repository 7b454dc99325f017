/* PReLU(x * part + before) + after in place; what there is not is NULL, or a part of 1. */
INLINE void end_block(float *values, const float *before, const float *slope, const float *after, float part, int c, int n)
{
    real value, other;
    LOAD(value, values + c);
    value *= part;
    if (before) {
        LOAD(other, before + c);
        value += other;
    }
    if (slope) {
        LOAD(other, slope + c);
        other *= value;
        value = SELECT(value >= 0.0f, value, other);
    }
    if (after) {
        LOAD(other, after + c);
        value += other;
    }
    put(values + c, &value, n, 0);
}

static void end_row(float *values, int channels, int width, const float *before, const float *slope, const float *after, float part)
{
    int x;
    for (x = 0; x < width; ++x, values += channels) {
        if (slope && !before) {
            EACH_BLOCK(channels, end_block(values, 0, slope, 0, part, c, n));
        } else {
            EACH_BLOCK(channels, end_block(values, before, slope, after, part, c, n));
        }
    }
}
