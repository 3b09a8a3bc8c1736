"""The client of Holdline: sends prompts and follows answers, and resumes them after a lost socket.

async with holdline_client.connect("http://127.0.0.1:8080") as client:
    async for piece in client.ask("Why is the sky blue?"):
        print(piece, end="", flush=True)

`mint_token` is for a backend that issues tokens to its users' browsers.
"""

from .answer import Answer
from .client import Client, connect
from .jwt import mint_token

__all__ = ["Answer", "Client", "connect", "mint_token"]
