"""The client of Holdline: sends prompts, and resumes their answers after a lost connection.

async with holdline_client.connect("http://127.0.0.1:8080") as client:
    async for piece in client.ask("Why is the sky blue?"):
        print(piece, end="", flush=True)

`mint_token` is for backends, which issue tokens to the browsers of their users.
"""

from .answer import Answer
from .client import Client, connect
from .feed import Feed
from .jwt import mint_token

__all__ = ["Answer", "Client", "Feed", "connect", "mint_token"]
