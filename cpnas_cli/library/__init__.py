"""`import cpnas_cli as cpnas`: what the commands do, from Python; the package itself has the names, see there.

Each function takes paths and plain values, and gives a frozen result that shows itself in a notebook. What can be
typed wrongly raises a `CpnasError`, whose text is the line that a command would print.
"""
