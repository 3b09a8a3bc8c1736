// A minimal server with Node's ws. It sends each message on a socket's Redis channel to the socket.
import { Redis } from 'ioredis'
import { WebSocketServer } from 'ws'
import { obey, redis } from './lines.mjs'

const sockets = new Map()
const subscriber = new Redis(redis())
const server = new WebSocketServer({
  host: '127.0.0.1',
  port: Number(process.argv[2]),
  perMessageDeflate: false
})
server.on('connection', (socket, request) => {
  const channel = `push:${request.url.split('=')[1]}`
  sockets.set(channel, socket)
  subscriber.subscribe(channel).then(() => socket.send('subscribed'))
  socket.on('close', () => {
    sockets.delete(channel)
    subscriber.unsubscribe(channel)
  })
})
subscriber.on('message', (channel, message) => sockets.get(channel)?.send(message))

await obey({ ready: () => 'ok' })
process.exit(0)
