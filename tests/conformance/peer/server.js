'use strict';
/**
 * The npm socket.io server, offering what the conformance suite asks a server for.
 *
 * Environment: JWT_SECRET; PORT, HOST, PING_INTERVAL, PING_TIMEOUT, UPGRADE_TIMEOUT, CONNECT_TIMEOUT (milliseconds),
 * MAX_PAYLOAD (bytes), NAMESPACES (comma-separated). Prints "Listening on URL" when it does.
 */
const { createHmac, timingSafeEqual } = require('node:crypto');
const { createServer } = require('node:http');
const { Server } = require('socket.io');

const env = process.env;
const SECRET = env.JWT_SECRET;
if (!SECRET) {
  console.error('JWT_SECRET is not set');
  process.exit(2);
}

/** The claims of an HS256 token, or null. */
function verified(token) {
  if (typeof token !== 'string') return null;
  const [head, body, signature] = token.split('.');
  if (!signature) return null;
  const expected = createHmac('sha256', SECRET).update(`${head}.${body}`).digest();
  const given = Buffer.from(signature, 'base64url');
  if (given.length !== expected.length || !timingSafeEqual(given, expected)) return null;
  const claims = JSON.parse(Buffer.from(body, 'base64url'));
  return claims.exp > Date.now() / 1000 ? claims : null;
}

function authenticate(socket, next) {
  const claims = verified(socket.handshake.auth.token);
  if (!claims) return next(new Error('Authentication failed: Invalid token'));
  socket.data.userId = claims.userId;
  next();
}

function serve(socket) {
  socket.on('ping', (...args) => {
    const ack = typeof args.at(-1) === 'function' ? args.pop() : null;
    const timestamp = args[0]?.timestamp ?? new Date().toISOString();
    socket.emit('pong', { timestamp });
    ack?.({ status: 'success', timestamp });
  });
}

const http = createServer();
const io = new Server(http, {
  pingInterval: Number(env.PING_INTERVAL || 25000),
  pingTimeout: Number(env.PING_TIMEOUT || 20000),
  upgradeTimeout: Number(env.UPGRADE_TIMEOUT || 10000),
  connectTimeout: Number(env.CONNECT_TIMEOUT || 45000),
  maxHttpBufferSize: Number(env.MAX_PAYLOAD || 1e6),
  serveClient: false,
});
for (const name of (env.NAMESPACES || '/').split(',')) {
  io.of(name).use(authenticate).on('connection', serve);
}

http.listen(Number(env.PORT || 0), env.HOST || '127.0.0.1', () => {
  const { address, port } = http.address();
  console.log(`Listening on http://${address}:${port}`);
});
