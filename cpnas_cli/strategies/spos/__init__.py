"""Single path one-shot (SPOS): one random architecture a step trains a shared Child; then evolution by scores in it.

strategy        the object: what it counts and calls itself
search          the epochs, the scores, the best
state           what was trained and scored so far, and which generation comes next
evolution       who the parents are, mutations, crossovers, the next child

What it shares with other searches of this kind is in `one_shot`.
"""
