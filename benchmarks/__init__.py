"""Speed and memory, measured: `python -m benchmarks` runs all, `python -m benchmarks.child_step` one.

Ratios are measured side by side in one run, call by call in turn, and medians are quoted.
"""
