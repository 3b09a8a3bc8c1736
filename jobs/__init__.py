"""The formats and operations that server and worker share through Redis: jobs, queue and logs.

Nothing here knows the web or calls a model.
"""
