// The HTTP server of the polling design: POST queues a job, and GET returns its state. A prompt that
// was accepted is answered, or its response fails, although servers restart.
import { Queue } from 'bullmq'
import express from 'express'

const connection = { host: '127.0.0.1', port: Number(process.env.REDIS_PORT) }
const queue = new Queue('responses', { connection })
queue.on('error', (error) => console.error(error.message))

const STATUS = { active: 'in_progress', completed: 'completed', failed: 'failed' }

function refuse(reply, status, code, message) {
  reply.status(status).json({ error: { message, type: 'invalid_request_error', param: null, code } })
}

async function view(job) {
  const status = STATUS[await job.getState()] ?? 'queued'
  const done = status === 'completed' ? await queue.getJob(job.id) : job
  return {
    id: `resp_${job.id}`,
    object: 'response',
    created_at: Math.floor(job.timestamp / 1000),
    status,
    background: true,
    model: job.data.model,
    error: status === 'failed' ? { code: 'server_error', message: job.failedReason } : null,
    incomplete_details: null,
    output:
      status === 'completed'
        ? [
            {
              id: `msg_${job.id}`,
              type: 'message',
              role: 'assistant',
              status: 'completed',
              content: [{ type: 'output_text', text: done.returnvalue, annotations: [] }]
            }
          ]
        : []
  }
}

const app = express()
app.use(express.json())

app.get('/health', async (_request, reply) => {
  await queue.waitUntilReady()
  reply.json({ status: 'ok' })
})

app.post('/v1/responses', async (request, reply) => {
  const { background, model, input, stream } = request.body
  if (!background || stream) {
    refuse(reply, 400, 'unsupported_value', 'Only "background": true without a stream is supported.')
    return
  }
  const job = await queue.add(
    'response',
    { model, input },
    {
      attempts: 3,
      backoff: { type: 'exponential', delay: 1000 },
      removeOnComplete: { age: 3600 },
      removeOnFail: { age: 3600 }
    }
  )
  reply.json(await view(job))
})

app.get('/v1/responses/:id', async (request, reply) => {
  const job = await queue.getJob(request.params.id.replace(/^resp_/, ''))
  if (job) reply.json(await view(job))
  else refuse(reply, 404, 'response_not_found', 'There is no such response.')
})

const server = app.listen(Number(process.argv[2]), '127.0.0.1')

process.on('SIGTERM', () => {
  server.close(async () => {
    await queue.close()
    process.exit(0)
  })
})
