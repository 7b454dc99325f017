"""What `cpnas predict` runs: a packed model on the CPU, without torch.

`run` (`Engine`) hands images to machine code, which walks the program of a model. `compiler` makes the program of the
packed file with `builder`, `layout`, `order` and `plan`; `program` says what a program is. `sharing` and `helpers` put
several threads to it. `team`, `walk` and the kernels are what is compiled: they compute a program's rows with the
vectors of `lanes`; `machine_code` compiles, keeps and loads them.
"""

from cpnas_cli.deploy.engine.run import Engine, Runner

__all__ = ["Engine", "Runner"]
