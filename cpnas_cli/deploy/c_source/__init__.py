"""A packed model as C: source that a compiler turns into a program without anything else.

`network` walks the layers and lists what is computed, with the constants and the memory that it needs (`constants`,
`memory`); `files` writes it out, around the kernels in `kernels/`, which are C.
"""

from cpnas_cli.deploy.c_source.files import C_FILES, CSource, c_source, write_c_source

__all__ = ["C_FILES", "CSource", "c_source", "write_c_source"]
