"""Formats structured log lines for people: the event, followed by its fields."""

import json

# Fields that are not shown as name=value. The event, the level and the exception have their own
# places in the text, and a person who watches the output needs no timestamps.
LEFT_OUT = ("event", "timestamp", "level", "exception")
QUIET = ("debug", "info")


def readable(line: str) -> str:
    """Returns a JSON log line as readable text, and any other line unchanged."""
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
