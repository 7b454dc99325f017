static void add_identity_row(const float *source, int channels, int width, float *out, int keep)
{
    EACH_BLOCK(channels * width, real value; LOAD(value, source + c); put(out + c, &value, n, keep));
}
