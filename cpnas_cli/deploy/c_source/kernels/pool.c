/* 3x3 pooling, then scale and shift; pixels beyond the image count neither in a maximum nor in a mean. */
typedef struct {
    const float *values;
    int size, channels, stride, is_max;
    const float *scale, *shift;
} pool_of;

INLINE real largest_of_column(const float *top, const float *middle, const float *bottom, int at)
{
    real a, b;
    LOAD(a, top + at);
    LOAD(b, middle + at);
    a = LARGER(b, a);
    LOAD(b, bottom + at);
    return LARGER(b, a);
}

/* Of a row the channels from `c` on. Each column's largest is found once; beyond the border the pixel beside it counts
   again. */
INLINE void max_pool_block(const pool_of *p, int y, int width, int stride, int c, int n, float *out, int keep)
{
    const int row = p->size * p->channels, line = y * stride;
    const float *middle = p->values + line * row + c;
    const float *top = line > 0 ? middle - row : middle, *bottom = line + 1 < p->size ? middle + row : middle;
    real factor, added, left = largest_of_column(top, middle, bottom, 0), center = left;
    int x;
    LOAD(factor, p->scale + c);
    LOAD(added, p->shift + c);
    for (x = 0; x < width; ++x, out += p->channels) {
        const int next = x * stride + 1 < p->size ? x * stride + 1 : p->size - 1;
        real right, value;
        if (stride == 2) {
            center = largest_of_column(top, middle, bottom, 2 * x * p->channels);
        }
        right = largest_of_column(top, middle, bottom, next * p->channels);
        value = LARGER(center, left);
        value = LARGER(right, value) * factor + added;
        put(out, &value, n, keep);
        left = stride == 2 ? right : center;
        center = right;
    }
}

/* Summed in the order of reading, three columns or those that there are. */
INLINE real sum_of_pixels(const pool_of *p, const float *first, int rows, int columns)
{
    real total, value;
    int column;
    LOAD(total, first);
    for (column = 1; column < columns; ++column) {
        LOAD(value, first + column * p->channels);
        total += value;
    }
    while (--rows > 0) {
        first += p->size * p->channels;
        for (column = 0; column < columns; ++column) {
            LOAD(value, first + column * p->channels);
            total += value;
        }
    }
    return total;
}

INLINE void mean_pool_block(const pool_of *p, int y, int width, int c, int n, float *out, int keep)
{
    const int top = y * p->stride > 0 ? y * p->stride - 1 : 0;
    const int rows = (y * p->stride + 2 < p->size ? y * p->stride + 2 : p->size) - top;
    real factor, added;
    int x;
    LOAD(factor, p->scale + c);
    LOAD(added, p->shift + c);
    for (x = 0; x < width; ++x, out += p->channels) {
        const int left = x * p->stride > 0 ? x * p->stride - 1 : 0;
        const int columns = (x * p->stride + 2 < p->size ? x * p->stride + 2 : p->size) - left;
        const float *first = p->values + (top * p->size + left) * p->channels + c;
        real value = columns == 3 ? sum_of_pixels(p, first, rows, 3) : sum_of_pixels(p, first, rows, columns);
        value /= (float)(rows * columns);
        value = value * factor + added;
        put(out, &value, n, keep);
    }
}

static void add_pool_row(const pool_of *p, int y, int width, float *out, int keep)
{
    if (!p->is_max) {
        EACH_BLOCK(p->channels, mean_pool_block(p, y, width, c, n, out + c, keep));
    } else if (p->stride == 1) {
        EACH_BLOCK(p->channels, max_pool_block(p, y, width, 1, c, n, out + c, keep));
    } else {
        EACH_BLOCK(p->channels, max_pool_block(p, y, width, 2, c, n, out + c, keep));
    }
}
