"""Instruments, order books, trades and the rules that keep them right."""
