"""The formats and operations that server and worker share through Redis: jobs, queue and logs.

Nothing here depends on HTTP or WebSocket, or calls a model.
"""
