/* Mean over the pixels and linear layer, summed as pairs of floats (high + low), which hold some 48 bits: scores are
   those of sums in double, rounded once, without any double. */
typedef struct {
    float high, low;
} pair;

INLINE void add_to(pair *sum, float value)
{
    const float high = sum->high + value, part = high - sum->high;
    sum->low += (sum->high - (high - part)) + (value - part);
    sum->high = high;
}

/* The upper half of a float's digits. */
INLINE float upper(float value)
{
    const float spread = value * 4097.0f;
    return spread - (spread - value);
}

INLINE void add_product_to(pair *sum, float x, float y)
{
    const float product = x * y, x_high = upper(x), y_high = upper(y), x_low = x - x_high, y_low = y - y_high;
    add_to(sum, product);
    sum->low += ((x_high * y_high - product) + x_high * y_low + x_low * y_high) + x_low * y_low;
}

static void add_features(const float *values, int channels, int pixels, float *features)
{
    int c, x;
    for (c = 0; c < channels; ++c) {
        pair sum = {0.0f, 0.0f};
        for (x = 0; x < pixels; ++x) {
            add_to(&sum, values[x * channels + c]);
        }
        features[c] = (sum.high + sum.low) / (float)pixels;
    }
}

static void classify(const float *features, int num_features, float *scores)
{
    int k, c;
    for (k = 0; k < MODEL_NUM_CLASSES; ++k) {
        pair sum = {0.0f, 0.0f};
        for (c = 0; c < num_features; ++c) {
            add_product_to(&sum, features[c], CLASS_WEIGHT(k, c));
        }
        add_to(&sum, class_biases[k]);
        scores[k] = sum.high + sum.low;
    }
}
