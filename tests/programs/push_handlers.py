"""Passes one message for each device on, with the function from the section "Apps on phones".

The function is taken from `docs/push.md`. Its services are at the port in the environment. Prints
the statuses that it returns. LiteLLM brings httpx and its HTTP/2 into the environment.
"""

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

DOCUMENT = (Path(__file__).parents[2] / "docs/push.md").read_text()
(PROGRAM,) = re.findall(r"^```python\n(.*?)^```$", DOCUMENT, re.DOTALL | re.MULTILINE)
HOSTS = re.compile(r"https://(?:fcm\.googleapis\.com|api\.push\.apple\.com)/")

scope: dict[str, Any] = {}
program, replaced = HOSTS.subn(f"https://127.0.0.1:{os.environ['PORT']}/", PROGRAM)
assert replaced == 2
exec(program, scope)
message = {"id": "resp_000" + "0" * 32, "status": "completed", "conversation": "conv_1"}
statuses = [
    scope["passed_on"]({**message, "device": device}, "fcm-token", "apns-token")
    for device in sys.argv[1:]
]
print(json.dumps(statuses))
