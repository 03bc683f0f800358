"""The optimum of one lane, its certificate and its derivatives."""
