"""Training: a step, an epoch, a whole training, and the evaluation of what came out."""
