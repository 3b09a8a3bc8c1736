// Vercel's resumable-stream behind the routes of the Responses API, as its README uses it. The
// library forgets a finished stream, so the whole output is saved and read afterwards.
import { randomUUID } from 'node:crypto'
import { Readable } from 'node:stream'
import express from 'express'
import { Redis } from 'ioredis'
import OpenAI from 'openai'
import { createResumableStreamContext } from 'resumable-stream/ioredis'

const client = new OpenAI()
const port = Number(process.env.REDIS_PORT)
const store = new Redis(port, '127.0.0.1')
const context = createResumableStreamContext({
  waitUntil: null,
  publisher: new Redis(port, '127.0.0.1'),
  subscriber: new Redis(port, '127.0.0.1')
})

const save = (response) => store.set(`response:${response.id}`, JSON.stringify(response), 'EX', 3600)
const text = (event) => `event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`

async function* events(id, body) {
  let response = { id, object: 'response', output: [] }
  let number = 0
  let output = ''
  const add = async (event) => {
    if (event.response) {
      response = { ...event.response, id }
      event = { ...event, response }
      await save(response)
    }
    number += 1
    output += text(event)
    return text(event)
  }
  try {
    for await (const event of await client.responses.create({ ...body, stream: true })) {
      yield await add(event)
    }
  } catch (error) {
    const failed = { code: 'server_error', message: error.message }
    response = { ...response, status: 'failed', error: failed }
    yield await add({ type: 'response.failed', sequence_number: number, response })
  }
  await store.set(`output:${id}`, output, 'EX', 3600)
}

const send = (reply, stream) => {
  reply.type('text/event-stream')
  Readable.from(stream).on('error', () => reply.destroy()).pipe(reply)
}

// Clients resume after an event. The library counts characters, so all is replayed and filtered.
async function* after(stream, cursor) {
  let rest = ''
  for await (const piece of stream) {
    const parts = (rest + piece).split('\n\n')
    rest = parts.pop()
    for (const part of parts) {
      const event = JSON.parse(part.slice(part.indexOf('\ndata: ') + 7))
      if (event.sequence_number > cursor) yield `${part}\n\n`
    }
  }
}

const app = express()
app.use(express.json())

app.get('/health', async (_request, reply) => {
  await store.ping()
  reply.json({ status: 'ok' })
})

app.post('/v1/responses', async (request, reply) => {
  const { background, stream: streamed, ...body } = request.body
  const id = `resp_${randomUUID().replaceAll('-', '')}`
  await save({ id, object: 'response', status: 'queued', output: [] })
  const stream = await context.createNewResumableStream(id, () =>
    ReadableStream.from(events(id, body))
  )
  if (streamed) return send(reply, stream)
  if (!background) for await (const _ of stream);
  reply.json(JSON.parse(await store.get(`response:${id}`)))
})

app.get('/v1/responses/:id', async (request, reply) => {
  const id = request.params.id
  const saved = await store.get(`response:${id}`)
  if (!saved) {
    const message = 'There is no such response.'
    reply.status(404).json({ error: { message, type: 'invalid_request_error', code: null } })
    return
  }
  if (request.query.stream !== 'true') return reply.json(JSON.parse(saved))
  const cursor = Number(request.query.starting_after ?? -1)
  const live = await context.resumeExistingStream(id)
  send(reply, after(live ?? [await store.get(`output:${id}`)], cursor))
})

app.listen(Number(process.argv[2]), '127.0.0.1')
