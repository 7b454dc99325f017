/* Classifies raw images: example FILE..., or standard input. A file holds one image after the other, each
   MODEL_IMAGE_BYTES long; for each a line of class and scores is printed. */
#include "model.h"

#include <stdio.h>

static uint8_t image[MODEL_IMAGE_BYTES];
static float scores[MODEL_NUM_CLASSES];

static int classify_file(FILE *file, const char *name)
{
    size_t num_bytes;
    while ((num_bytes = fread(image, 1, sizeof image, file)) == sizeof image) {
        int k;
        printf("%s", model_classes[model_classify(image, scores)]);
        for (k = 0; k < MODEL_NUM_CLASSES; ++k) {
            printf("\t%.9g", (double)scores[k]);
        }
        printf("\n");
    }
    if (num_bytes > 0 || ferror(file)) {
        fprintf(stderr, "%s: not a whole number of images of %d bytes\n", name, MODEL_IMAGE_BYTES);
        return 1;
    }
    return 0;
}

int main(int argc, char **argv)
{
    int i, failed = 0;
    if (argc < 2) {
        return classify_file(stdin, "standard input");
    }
    for (i = 1; i < argc; ++i) {
        FILE *file = fopen(argv[i], "rb");
        if (file == NULL) {
            perror(argv[i]);
            failed = 1;
            continue;
        }
        failed |= classify_file(file, argv[i]);
        fclose(file);
    }
    return failed;
}
