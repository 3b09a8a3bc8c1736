// The HTTP server of the polling design that Holdline replaces. Express accepts prompts, and BullMQ
// queues them. The client polls for the result once a second.
import { Queue } from 'bullmq'
import express from 'express'
import { Redis } from 'ioredis'
import { obey, redis } from './lines.mjs'

const queue = new Queue('seed', { connection: redis() })
const results = new Redis(redis())
const app = express()
app.use(express.json())
app.post('/jobs', async (request, response) => {
  const job = await queue.add(
    'answer',
    { prompt: request.body.prompt },
    { removeOnComplete: { age: 3600 }, removeOnFail: { age: 3600 } }
  )
  response.json({ id: job.id })
})
app.get('/jobs/:id', async (request, response) => {
  const text = await results.get(`seed:result:${request.params.id}`)
  response.json(text === null ? { status: 'waiting' } : { status: 'done', text })
})
const server = app.listen(Number(process.argv[2]), '127.0.0.1')
// A client's next poll may come later than after the default of five seconds.
server.keepAliveTimeout = 60_000

await obey({ ready: () => queue.waitUntilReady().then(() => 'ok') })
process.exit(0)
