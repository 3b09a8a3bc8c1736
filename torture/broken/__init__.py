"""A small server of the Responses API, correct or with one fault that the suite must find."""
