"""What files hold: models, and data sets with the names of their columns."""
