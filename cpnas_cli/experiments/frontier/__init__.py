"""Is 1 bit worth it? Accuracy over bytes and over time of 1-bit, int8 and float32 networks on the same images."""
