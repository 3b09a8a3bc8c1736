// The worker of the polling design that Holdline replaces. It stores each answer in a Redis key.
import { Worker } from 'bullmq'
import { Redis } from 'ioredis'
import { obey, redis } from './lines.mjs'

const results = new Redis(redis())
const worker = new Worker(
  'seed',
  async (job) => {
    const response = await fetch(`${process.env.OPENAI_BASE_URL}/chat/completions`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', Authorization: 'Bearer bench' },
      body: JSON.stringify({
        model: 'bench',
        messages: [{ role: 'user', content: job.data.prompt }]
      })
    })
    const answer = await response.json()
    await results.set(`seed:result:${job.id}`, answer.choices[0].message.content, 'EX', 3600)
  },
  { connection: redis(), concurrency: 100 }
)

await obey({ ready: () => worker.waitUntilReady().then(() => 'ok') })
process.exit(0)
