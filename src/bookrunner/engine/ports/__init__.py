"""Every Protocol that an adapter implements, one file a port."""
