"""Settings, the composition root, the life cycle and the command line."""
