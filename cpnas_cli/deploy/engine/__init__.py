"""What `cpnas predict` runs: a packed model on the CPU, without torch.

`run` (`Engine`) walks the program of a model, which `compiler` makes of the packed file; `program` says what a program
is, `bit_kernels` and `real_kernels` compute its rows, `lanes` are the vectors that they compute with.
"""

from cpnas_cli.deploy.engine.run import Engine, Runner

__all__ = ["Engine", "Runner"]
