"""Strict fairness (FairNAS): a shared Child whose candidates all learn in every step, then many scores in it.

strategy        the object: what it checks, counts and calls itself
search          the rounds: train, score, abandon the worse half; and the scores of other genotypes in what was trained
state           which round it is, and what was scored in it
draws           architectures drawn such that every candidate stands in one, and which candidates stay
shared_child    the shared Child: its steps, its scores, its checkpoint
"""
