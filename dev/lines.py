"""Log lines as a person reads them: what happened, and the facts behind it."""

import json

# The supervisor says who speaks, and the reader sees when.
LEFT_OUT = ("event", "timestamp", "level", "exception")
QUIET = ("debug", "info")


def readable(line: str) -> str:
    """A structured line in plain words; any other line as it is."""
    if not line.startswith("{"):
        return line
    try:
        fields = json.loads(line)
    except ValueError:
        return line
    if not isinstance(fields, dict) or "event" not in fields:
        return line
    level = str(fields.get("level", "info"))
    facts = " ".join(f"{name}={value}" for name, value in fields.items() if name not in LEFT_OUT)
    text = f"{'' if level in QUIET else f'{level}: '}{fields['event']}{facts and f'  {facts}'}"
    return f"{text}\n{fields['exception']}" if "exception" in fields else text
