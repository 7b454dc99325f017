"""``python -m cpnas_cli`` is the same program as ``cpnas``."""

from cpnas_cli.cli.app import main

if __name__ == "__main__":
    main()
