"""The server: holds client connections, follows logs and sends their events. Calls no model."""
