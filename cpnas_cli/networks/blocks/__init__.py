"""What a convolution of a cell is made of, and what goes with it: one object for each kind of block."""
