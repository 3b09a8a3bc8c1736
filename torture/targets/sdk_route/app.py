"""A resumable route in the usual way: the official SDK behind FastAPI, and a list in memory.

Promises: the answer continues while its client is away; a client that comes back gets the events
after the last one that it has seen; a client can cancel the answer.
"""

import asyncio
import json

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import StreamingResponse
from openai import AsyncOpenAI, OpenAIError

app = FastAPI()
client = AsyncOpenAI()
answers = {}


class Answer:
    def __init__(self, body):
        self.events = []
        self.response = None
        self.done = False
        self.changed = asyncio.Condition()
        self.task = asyncio.create_task(self.read(body))

    async def read(self, body):
        body = {key: value for key, value in body.items() if key not in ("background", "stream")}
        try:
            async with await client.responses.create(**body, stream=True) as stream:
                async for event in stream:
                    await self.add(event.model_dump(mode="json"))
        except OpenAIError as error:
            await self.end(
                "response.failed", "failed", {"code": "server_error", "message": str(error)}
            )
        except asyncio.CancelledError:
            await self.end("response.incomplete", "cancelled", None)
        finally:
            async with self.changed:
                self.done = True
                self.changed.notify_all()

    async def end(self, kind, status, error):
        response = {"output": [], **(self.response or {}), "status": status, "error": error}
        number = len(self.events)
        await self.add({"type": kind, "sequence_number": number, "response": response})

    async def add(self, event):
        async with self.changed:
            self.events.append(event)
            if response := event.get("response"):
                self.response = response
                if response.get("id"):
                    answers[response["id"]] = self
            self.changed.notify_all()

    async def follow(self, index):
        while True:
            async with self.changed:
                while index >= len(self.events) and not self.done:
                    await self.changed.wait()
            if index >= len(self.events):
                return
            for event in self.events[index:]:
                yield f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"
                index += 1

    async def ended(self):
        await asyncio.wait([self.task])
        return self.response


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.post("/v1/responses")
async def create(request: Request):
    body = await request.json()
    answer = Answer(body)
    if body.get("stream"):
        return StreamingResponse(answer.follow(0), media_type="text/event-stream")
    if not body.get("background"):
        return await answer.ended()
    async with answer.changed:
        await answer.changed.wait_for(lambda: answer.response is not None)
    return answer.response


def find(response_id):
    if response_id not in answers:
        raise HTTPException(404, "There is no such response.")
    return answers[response_id]


@app.get("/v1/responses/{response_id}")
async def retrieve(response_id: str, stream: bool = False, starting_after: int = -1):
    answer = find(response_id)
    if stream:
        return StreamingResponse(answer.follow(starting_after + 1), media_type="text/event-stream")
    return answer.response


@app.post("/v1/responses/{response_id}/cancel")
async def cancel(response_id: str):
    answer = find(response_id)
    answer.task.cancel()
    return await answer.ended()
