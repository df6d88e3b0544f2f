"""REST: metrics, health, readiness."""
