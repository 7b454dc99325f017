"""Budgets of what a search finds: the network, at its final cells and channels, takes no more of a resource than asked.

demand        what a network takes of one resource, as a sum over the edges and nodes of its cells
resource      what a resource is: size, OPs, latency; the objects stand in `registry.RESOURCES`
choice        one operation for every edge, the best within all budgets: a mixed-integer linear program
feasibility   what the budgets of a search allow: draws, repairs, abandoning, the last choice
"""
