"""Runs instructor in several modes over both APIs. Prints the results as JSON."""

import json
import os
import sys
from collections.abc import Callable

import instructor
from instructor.core.exceptions import InstructorRetryException
from openai import OpenAI
from pydantic import BaseModel

MODES = {
    "tools": instructor.Mode.TOOLS,
    "json": instructor.Mode.JSON,
    "json_schema": instructor.Mode.JSON_SCHEMA,
    "responses_tools": instructor.Mode.RESPONSES_TOOLS,
}


class City(BaseModel):
    city: str


def error_shown(ask: Callable[[str], str], prompt: str) -> str:
    """Returns the error message that a user sees."""
    try:
        return f"answered: {ask(prompt)}"
    except InstructorRetryException as error:
        return str(error)


asked = json.loads(sys.argv[1])
seen = {}
for name, mode in MODES.items():
    client = instructor.from_openai(
        OpenAI(base_url=os.environ["BASE_URL"], api_key="any"), mode=mode
    )

    def city(prompt: str, client: instructor.Instructor = client) -> str:
        messages = [{"role": "user", "content": prompt}]
        return client.create(model="m", messages=messages, response_model=City).city

    say = asked[name]
    seen[name] = {
        "plain": city(say["plain"]),
        "failures": {kind: error_shown(city, prompt) for kind, prompt in say["failures"].items()},
    }
    pieces = client.create_partial(
        model="m", messages=[{"role": "user", "content": say["streamed"]}], response_model=City
    )
    seen[name]["streamed"] = [piece.city for piece in pieces][-1]
print(json.dumps(seen))
