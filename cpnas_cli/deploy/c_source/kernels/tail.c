int model_classify(const uint8_t *image, float *scores)
{
    int k, best = 0;
    model_scores(image, scores);
    for (k = 1; k < MODEL_NUM_CLASSES; ++k) {
        if (scores[k] > scores[best]) {
            best = k;
        }
    }
    return best;
}
