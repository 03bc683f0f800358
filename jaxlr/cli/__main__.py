"""`python -m jaxlr.cli`."""

from jaxlr_command import main

if __name__ == "__main__":
    main()
