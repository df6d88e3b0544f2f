"""The market-data WebSocket: books, trades and metrics for many clients."""
