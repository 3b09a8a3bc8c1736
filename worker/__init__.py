"""Claims jobs, calls the model, appends what it says to the log. Never sees a socket."""
