// The peer BullMQ, whose worker runs empty jobs, 100 at a time.
import { Queue, Worker } from 'bullmq'
import { obey, redis } from './lines.mjs'

const queue = new Queue('bench', { connection: redis() })
const keep = { removeOnComplete: { age: 3600 }, removeOnFail: { age: 3600 } }

await obey({
  ready: () => queue.waitUntilReady().then(() => 'ok'),

  async fill(count) {
    const jobs = Array.from({ length: Number(count) }, (_, n) => ({
      name: 'noop',
      data: { input: 'Why is the sky blue?', n },
      opts: keep
    }))
    for (let at = 0; at < jobs.length; at += 500) await queue.addBulk(jobs.slice(at, at + 500))
  },

  async drain(count) {
    let left = Number(count)
    const worker = new Worker('bench', async () => 'done', {
      connection: redis(),
      concurrency: 100
    })
    await new Promise((resolve) => worker.on('completed', () => --left || resolve()))
    await worker.close()
  }
})
process.exit(0)
