"""The engine and the ports that it and the services meet the world through."""
