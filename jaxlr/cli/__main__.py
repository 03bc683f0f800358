"""`python -m jaxlr.cli`."""

from jaxlr.cli import main

if __name__ == "__main__":
    main()
