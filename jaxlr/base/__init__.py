"""What any room may use, and which knows nothing of models."""
