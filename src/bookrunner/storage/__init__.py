"""Adapters to disks: journal segments and the Parquet catalogue."""
