"""asyncio services with start and stop; they know ports, not adapters."""
