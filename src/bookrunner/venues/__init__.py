"""Adapters to exchanges, one folder a venue family, the same file names in each."""
