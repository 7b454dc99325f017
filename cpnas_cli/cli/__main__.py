"""`python -m cpnas_cli.cli > docs/commands.md`."""

import os
import sys

from cpnas_cli.cli.documentation import commands_markdown

os.environ["COLUMNS"] = "80"  # whatever the terminal has
sys.stdout.write(commands_markdown())
