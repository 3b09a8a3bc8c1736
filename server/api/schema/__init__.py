"""What goes out, as types: the objects of the standard, and ours.

The server writes JSON from the log as it is; nothing here is built on the way. The types are what
`documents` makes its schemas from, and the tests hold real answers against them.
"""
