"""1 bit: signs with a pseudo-gradient, filters with a scale, and the convolution of both."""
