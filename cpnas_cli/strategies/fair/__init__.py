"""Strict fairness (FairNAS): a shared Child whose candidates all learn in every step, then many scores in it.

strategy        the object: what it counts and calls itself
search          the rounds: train, score, abandon the worse half; and the scores of other genotypes in what was trained
state           which round it is, and what was scored in it
candidates      which candidates stay

What it shares with other searches of this kind is in `one_shot`.
"""
