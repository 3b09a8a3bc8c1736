"""The OpenAPI and AsyncAPI documents that describe the server's interfaces.

They are generated from the types that parse requests and the types of outgoing objects.
"""
