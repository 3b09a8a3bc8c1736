"""The chat completions API: the request and its messages, and the chunks of the answer.

What both APIs share, and the call itself, lie in `worker.upstream`.
"""
