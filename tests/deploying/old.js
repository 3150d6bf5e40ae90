'use strict';
/**
 * A stand-in for the Node.js service that this server replaces: npm's socket.io, as far as a migration needs it.
 *
 * Environment: JWT_SECRET, PORT. Prints "Listening on URL" when it does.
 */
const { createHmac } = require('node:crypto');
const { createServer } = require('node:http');
const { Server } = require('socket.io');

/** The claims of an HS256 token, or null. */
function verified(token) {
  const [head, body, signature] = String(token).split('.');
  const expected = createHmac('sha256', process.env.JWT_SECRET).update(`${head}.${body}`).digest('base64url');
  return signature === expected ? JSON.parse(Buffer.from(body, 'base64url')) : null;
}

const http = createServer((request, response) => {
  if (request.method !== 'POST' || request.url !== '/api/laravel-broadcast') {
    response.writeHead(request.url === '/api/health' ? 200 : 404).end(JSON.stringify({ status: 'healthy' }));
    return;
  }
  const parts = [];
  request.on('data', (part) => parts.push(part)).on('end', () => {
    const { channels, event, data } = JSON.parse(Buffer.concat(parts));
    for (const channel of channels) io.to(channel).emit(event, { ...data, source: 'laravel' });
    response.writeHead(200, { 'Content-Type': 'application/json' }).end(JSON.stringify({ success: true, old: true }));
  });
});
const io = new Server(http, { serveClient: false });

io.use((socket, next) => {
  const claims = verified(socket.handshake.auth.token);
  if (!claims) return next(new Error('Authentication failed: Invalid token'));
  socket.data.userId = claims.userId;
  next();
});

io.on('connection', (socket) => {
  socket.on('subscribe', ({ channel }, ack) => {
    socket.join(channel);
    socket.emit('subscribed', { channel, status: 'success' });
    ack?.({ channel, status: 'success' });
  });
  socket.emit('connected', { socketId: socket.id, userId: socket.data.userId, old: true });
});

http.listen(Number(process.env.PORT), '127.0.0.1', () => {
  const { address, port } = http.address();
  console.log(`Listening on http://${address}:${port}`);
});
