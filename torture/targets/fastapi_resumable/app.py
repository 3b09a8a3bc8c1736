"""fastapi-resumable-stream behind the routes of the Responses API, as its README uses it.

One chunk of the library is one event, so that the cursor of the standard is its index.
"""

import json
import os
import uuid
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException, Request
from fastapi_resumable_stream import (
    ActiveStreamRegistry,
    ResumableStream,
    StopController,
    resume_conversation_stream,
    start_conversation_stream,
    stop_conversation_stream,
    streaming_response,
)
from openai import AsyncOpenAI, OpenAIError
from redis.asyncio import Redis

client = AsyncOpenAI()
redis = Redis.from_url(os.environ["REDIS_URL"])
stream = ResumableStream(redis)
registry = ActiveStreamRegistry(redis)
stop = StopController(redis)


@asynccontextmanager
async def lifespan(_app):
    yield
    await stream.close()


app = FastAPI(lifespan=lifespan)


async def save(response):
    await redis.set(f"response:{response['id']}", json.dumps(response), ex=3600)


def chunk(event):
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"


async def events_of(response_id, body):
    response, number = {"id": response_id, "object": "response", "output": []}, 0
    try:
        async with await client.responses.create(**body, stream=True) as events:
            async for event in events:
                if await stop.is_stopped(response_id):
                    return
                found = event.model_dump(mode="json")
                if "response" in found:
                    response = found["response"] = {**found["response"], "id": response_id}
                    await save(response)
                yield chunk(found)
                number += 1
    except OpenAIError as error:
        failed = {"code": "server_error", "message": str(error)}
        response = {**response, "status": "failed", "error": failed}
        await save(response)
        yield chunk({"type": "response.failed", "sequence_number": number, "response": response})


@app.get("/health")
async def health():
    await redis.ping()
    return {"status": "ok"}


@app.post("/v1/responses")
async def create(request: Request):
    body = await request.json()
    background, streamed = body.pop("background", False), body.pop("stream", False)
    response_id = f"resp_{uuid.uuid4().hex}"
    await save({"id": response_id, "object": "response", "status": "queued", "output": []})
    reply = await start_conversation_stream(
        stream,
        registry,
        stop,
        response_id,
        response_id,
        producer=lambda: events_of(response_id, body),
    )
    if streamed:
        return reply
    if not background:
        async for _ in reply.body_iterator:
            pass
    return await retrieve(response_id)


@app.get("/v1/responses/{response_id}")
async def retrieve(response_id: str, stream: bool = False, starting_after: int = -1):
    if stream:
        resumed = await resume(response_id, starting_after + 1)
        if resumed is not None:
            return streaming_response(resumed)
    saved = None if stream else await redis.get(f"response:{response_id}")
    if saved is None:
        raise HTTPException(404, "There is no such response.")
    return json.loads(saved)


async def resume(response_id, after):
    return await resume_conversation_stream(stream, registry, response_id, after=after)


@app.post("/v1/responses/{response_id}/cancel")
async def cancel(response_id: str):
    response = await retrieve(response_id)
    if response["status"] in ("queued", "in_progress"):
        await stop_conversation_stream(registry, stop, response_id)
        response = {**response, "status": "cancelled"}
        await save(response)
    return response
