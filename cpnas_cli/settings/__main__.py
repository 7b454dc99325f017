"""`python -m cpnas_cli.settings > docs/settings.md`."""

import sys

from cpnas_cli.settings.documentation import settings_markdown

sys.stdout.write(settings_markdown())
