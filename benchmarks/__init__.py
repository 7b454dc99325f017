"""Benchmarks, each a module: `python -m benchmarks.child_step`. Ratios are measured side by side in one run."""
