"""Claims jobs, calls models and appends their output to the log. Never handles client sockets."""
