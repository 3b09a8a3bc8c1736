"""The client of Holdline: asks, follows, and loses nothing with a lost socket.

async with holdline.connect("http://127.0.0.1:8080") as client:
    async for piece in client.ask("Why is the sky blue?"):
        print(piece, end="", flush=True)
"""

from .answer import Answer
from .client import Client, connect

__all__ = ["Answer", "Client", "connect"]
