"""How sure the parameters of a fit are."""
