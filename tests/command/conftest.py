from tests.dev.conftest import is_alive, wait_until

__all__ = ["is_alive", "wait_until"]
