// The worker of the polling design: calls the model, and returns the text as the job's result.
import { Worker } from 'bullmq'
import OpenAI from 'openai'

const client = new OpenAI()
const connection = { host: '127.0.0.1', port: Number(process.env.REDIS_PORT) }

const worker = new Worker(
  'responses',
  async (job) => {
    const completion = await client.chat.completions.create({
      model: job.data.model,
      messages: [{ role: 'user', content: job.data.input }]
    })
    return completion.choices[0].message.content
  },
  {
    connection,
    concurrency: 100,
    lockDuration: Number(process.env.LOCK_MS),
    stalledInterval: Number(process.env.LOCK_MS)
  }
)
worker.on('error', (error) => console.error(error.message))
await worker.waitUntilReady()
console.log('ready')

process.on('SIGTERM', async () => {
  await worker.close()
  process.exit(0)
})
