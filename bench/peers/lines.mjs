// The command protocol of the peers: each input line is a command and gets one reply line.
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
