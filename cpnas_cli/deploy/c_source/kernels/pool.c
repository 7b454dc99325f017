/* 3x3 pooling, then scale and shift; pixels beyond the image count neither in a maximum nor in a mean. */
typedef struct {
    const float *values;
    int size, channels, stride, is_max;
    const float *scale, *shift;
} pool_of;

INLINE void pool_block(const pool_of *p, int top, int bottom, int left, int right, int c, int n, float *out, int keep)
{
    const float *source = p->values + c, *first = source + (top * p->size + left) * p->channels;
    const float count = (float)((bottom - top) * (right - left));
    real total, factor, added;
    int row, column;
    LOAD(total, first);
    for (row = top; row < bottom; ++row) {
        for (column = left; column < right; ++column) {
            real value;
            if (row == top && column == left) {
                continue;
            }
            LOAD(value, source + (row * p->size + column) * p->channels);
            if (p->is_max) {
                total = SELECT(value > total, value, total);
            } else {
                total += value;
            }
        }
    }
    if (!p->is_max) {
        total /= count;
    }
    LOAD(factor, p->scale + c);
    LOAD(added, p->shift + c);
    total = total * factor + added;
    put(out + c, &total, n, keep);
}

static void add_pool_row(const pool_of *p, int y, int width, float *out, int keep)
{
    const int top = y * p->stride > 0 ? y * p->stride - 1 : 0;
    const int bottom = y * p->stride + 2 < p->size ? y * p->stride + 2 : p->size;
    int x;
    for (x = 0; x < width; ++x, out += p->channels) {
        const int left = x * p->stride > 0 ? x * p->stride - 1 : 0;
        const int right = x * p->stride + 2 < p->size ? x * p->stride + 2 : p->size;
        EACH_BLOCK(p->channels, pool_block(p, top, bottom, left, right, c, n, out, keep));
    }
}
