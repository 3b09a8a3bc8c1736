"""The server: holds client connections and sends the events of response logs. Calls no model."""
