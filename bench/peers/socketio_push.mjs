// Socket.IO with its Redis adapter. If another process emits an event to a room, the server sends the event to the
// socket in that room.
import { createServer } from 'node:http'
import { createAdapter } from '@socket.io/redis-adapter'
import { Redis } from 'ioredis'
import { Server } from 'socket.io'
import { obey, redis } from './lines.mjs'

const server = createServer()
const io = new Server(server, {
  adapter: createAdapter(new Redis(redis()), new Redis(redis())),
  transports: ['websocket'],
  perMessageDeflate: false,
  pingInterval: 300_000
})
io.on('connection', (socket) => {
  socket.join(`room${socket.handshake.query.n}`)
  socket.emit('subscribed')
})
server.listen(Number(process.argv[2]), '127.0.0.1')

await obey({ ready: () => 'ok' })
process.exit(0)
