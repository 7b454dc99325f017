"""Columns of the table of 1x1 convolutions."""

# Offset of the image's first word; words from a row, a pixel, a plane to the next; planes; offset of the weights
# (blocks, planes, 16); inputs of a filter; offsets of scale and shift.
WORDS, ROW, STEP, PLANE, NUM_WORDS, WEIGHTS, NUM_INPUTS, SCALE, SHIFT = range(9)
PRODUCT_COLUMNS = 9
