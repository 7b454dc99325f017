"""CP-NAS: Algorithm 9 with the Child-Parent indicator, and BNAS-dagger, which is its beta_P = 0.

strategy            the objects: what they check, count, share and call themselves
search              the loop over rounds, passes and draws
indicator           (4.15) with either sign, (4.16) and abandoning, as functions of numbers
credit              what e of (4.16) is computed from
state               where a search stands, as a function of its history
shared_networks     how one draw's Child and Parent are trained and validated
graphed_networks    the same as CUDA graphs
branching           one search that goes on as another of another beta_P or indicator
"""
