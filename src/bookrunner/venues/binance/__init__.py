"""Binance: USD-M and COIN-M futures, spot, and Binance.US."""
