"""Fetch weights, and convert the releases of data sets."""
