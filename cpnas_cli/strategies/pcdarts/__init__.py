"""PC-DARTS over the operations of the 1-bit Child.

strategy         the object: what it checks, counts and calls itself
search           the two optimizers, epoch by epoch, and the genotype that they give
mixed_network    the network whose edges are weighted sums of all operations
"""

NUM_INCOMING_EDGES = 2
"""How many it keeps of every node."""
