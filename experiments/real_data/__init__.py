"""Fits with defaults on real data, beside an independent Newton solve and scikit-learn."""
