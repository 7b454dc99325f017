"""The page of a run, an experiment or a folder of runs: one HTML file that needs nothing else.

From what the runs have left, read by their own readers; `blocks` says what a page consists of, `rendering` makes HTML
of it. The same folder gives the same bytes.
"""

from cpnas_cli.reports.page.making import make_page, write_page

__all__ = ["make_page", "write_page"]
