"""`python -m jaxlr`, as `jaxlr`."""

from jaxlr_command import main

if __name__ == "__main__":
    main()
