// A peer is told what to do line by line, and answers each line with one line.
import { createInterface } from 'node:readline'

export async function obey(commands) {
  for await (const line of createInterface({ input: process.stdin })) {
    const [name, ...words] = line.split(' ')
    const answer = await commands[name](...words)
    process.stdout.write(`${answer ?? 'ok'}\n`)
  }
}

export const redis = () => {
  const { hostname: host, port } = new URL(process.env.REDIS_URL)
  return { host, port: Number(port), maxRetriesPerRequest: null }
}
