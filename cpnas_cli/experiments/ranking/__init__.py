"""Which scores rank architectures as their full training does: `cpnas rank`, against a table of trained ones.

table    reads a table of architectures, each trained in full with several seeds
scores   what gives an architecture a score: columns of the table, a search's draws
ranks    how well a score ranks, with its uncertainty
record   all of it as one document
"""
