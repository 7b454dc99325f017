"""One-shot searches: one shared Child is trained with many architectures, then many are scored in it, without training.

strategy        what such strategies check alike
search          epochs and scores as history records, committed one after the other
state           what was trained and scored so far
draws           architectures drawn such that every candidate stands in one, or uniformly
shared_child    the shared Child: its steps, its scores, its checkpoint
"""
