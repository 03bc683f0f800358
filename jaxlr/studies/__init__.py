"""What users run: sweeps, cross-validation, refits, tuning."""
