/* Adds channels of images times `part`, one piece after the other; `halves`: of the mean over 2x2 pixels. */
typedef struct {
    const float *values; /* of the piece's first channel */
    int size, pixel, out_channel, channels;
} piece_of;

INLINE void shortcut_block(const piece_of *piece, const float *source, int halves, float part, int c, int n, float *out, int keep)
{
    real sum;
    LOAD(sum, source + c);
    if (halves) {
        const float *below = source + piece->size * piece->pixel + c;
        real other;
        LOAD(other, source + piece->pixel + c);
        sum += other;
        LOAD(other, below);
        sum += other;
        LOAD(other, below + piece->pixel);
        sum = (sum + other) * 0.25f;
    }
    sum *= part;
    put(out + c, &sum, n, keep);
}

static void add_shortcut_row(const piece_of *pieces, int num_pieces, int halves, float part, int y, int width, float *out,
                             int pixel, int keep)
{
    int x, k;
    for (k = 0; k < num_pieces; ++k) {
        const piece_of *piece = pieces + k;
        const float *source = piece->values + (y << halves) * piece->size * piece->pixel; /* of row y, or 2 y */
        float *place = out + piece->out_channel;
        for (x = 0; x < width; ++x, place += pixel, source += piece->pixel << halves) {
            EACH_BLOCK(piece->channels, shortcut_block(piece, source, halves, part, c, n, place, keep));
        }
    }
}
