"""Runs packed models on the CPU: vectors, kernels, programs of them, and what walks a program."""

from cpnas_cli.deploy.engine.run import Engine, Runner

__all__ = ["Engine", "Runner"]
