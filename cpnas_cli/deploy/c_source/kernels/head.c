/* A 1-bit network: see README.md. Written by a program; the constants are the network. */
#include "model.h"

#include <float.h>
#include <limits.h>

/* -DMODEL_OBSERVE: call model_observe, which you write, after every value that is computed. `values` is (size, size,
   channels), or NULL where they are not kept; `signs` are planes of size * size words, one for 32 channels. */
#if defined(MODEL_OBSERVE)
void model_observe(const char *name, const float *values, const uint32_t *signs, int channels, int size);
#define OBSERVE(name, values, signs, channels, size) model_observe(#name, values, signs, channels, size)
#else
#define OBSERVE(name, values, signs, channels, size) ((void)0)
#endif
