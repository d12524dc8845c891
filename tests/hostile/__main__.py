"""`python -m tests.hostile`: see tests/hostile/command.py."""

import sys

if __name__ == "__main__":
    # Processes that a scenario starts read this file again: it is to cost them nothing.
    from tests.hostile.command import main

    sys.exit(main())
