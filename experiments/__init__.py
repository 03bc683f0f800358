"""One script a question: what it asks, what it ran, a table and a picture."""
