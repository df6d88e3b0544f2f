"""Sockets and requests to venues: reconnecting WebSocket, rate-limited REST."""
