"""Successive halving of genotypes that are each trained on their own: the rival of every search in shared weights.

strategy    the object: what it checks, counts and calls itself
search      the trainings, round by round, and who goes on
recipe      the final recipe in fewer epochs
"""
