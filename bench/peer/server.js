'use strict';
/**
 * The npm socket.io server as a site would write it: JWT on connect, a room per channel, an HTTP publish API.
 *
 * It is the peer that `python -m mechamap_rt.bench` measures mechamap_rt against, so it does what that
 * service does for one message and no more: no logging per message, no compression, one process.
 * Environment: PORT, HOST, JWT_SECRET, LARAVEL_API_KEY.
 */
const { createServer } = require('node:http');
const { createHash, timingSafeEqual } = require('node:crypto');
const express = require('express');
const jwt = require('jsonwebtoken');
const { Server } = require('socket.io');

const HOST = process.env.HOST || '127.0.0.1';
const PORT = Number(process.env.PORT || 3000);
const SECRET = required('JWT_SECRET');
const KEY_DIGEST = digest(required('LARAVEL_API_KEY'));
const MAX_BYTES = 2e6;

function required(name) {
  const value = process.env[name];
  if (!value) {
    console.error(`${name} is not set`);
    process.exit(2);
  }
  return value;
}

function digest(text) {
  return createHash('sha256').update(text).digest();
}

const app = express();
const server = createServer(app);
const io = new Server(server, {
  maxHttpBufferSize: MAX_BYTES,
  perMessageDeflate: false,
  httpCompression: false,
  serveClient: false,
});

io.use((socket, next) => {
  const token = socket.handshake.auth.token || socket.handshake.query.token;
  if (!token) return next(new Error('Authentication failed: No token provided'));
  jwt.verify(token, SECRET, { algorithms: ['HS256'] }, (err, claims) => {
    if (err) return next(new Error('Authentication failed: Invalid token'));
    if (!(claims.permissions || []).includes('receive_notifications')) {
      return next(new Error('Authentication failed: Insufficient permissions'));
    }
    socket.data.userId = claims.userId;
    socket.data.role = claims.role;
    next();
  });
});

function authorized(userId, channel) {
  const resource = channel.replace(/^(private|presence)-/, '');
  return resource.startsWith('public.') || resource === `user.${userId}`;
}

io.on('connection', (socket) => {
  const { userId } = socket.data;
  const own = `private-user.${userId}`;
  socket.join(own);
  socket.on('subscribe', (body) => {
    const channel = body && body.channel;
    if (typeof channel !== 'string' || !authorized(userId, channel)) {
      socket.emit('subscription_error', { channel, error: 'Unauthorized' });
      return;
    }
    socket.join(channel);
    socket.emit('subscribed', { channel, status: 'success', timestamp: new Date().toISOString() });
  });
  socket.on('unsubscribe', (body) => {
    socket.leave(body.channel);
    socket.emit('unsubscribed', { channel: body.channel, timestamp: new Date().toISOString() });
  });
  const timestamp = new Date().toISOString();
  socket.emit('connected', { socketId: socket.id, userId, timestamp, channels: [own] });
});

function keyed(req, res, next) {
  const given = req.get('X-WebSocket-API-Key');
  if (given && timingSafeEqual(digest(given), KEY_DIGEST)) return next();
  res.status(401).json({ success: false, error: 'Unauthorized', message: 'No or wrong API key' });
}

function publish(channel, event, data, source, timestamp) {
  io.to(channel).emit(event, { ...data, timestamp, source });
  const room = io.of('/').adapter.rooms.get(channel);
  return room ? room.size : 0;
}

app.get('/api/health', (req, res) => {
  res.json({ status: 'ok', uptime: process.uptime(), memory: process.memoryUsage() });
});

app.use(express.json({ limit: MAX_BYTES }));

app.post('/api/broadcast', keyed, (req, res) => {
  const { channel, event, data = {} } = req.body || {};
  if (!channel || !event) {
    res.status(400).json({ success: false, error: 'Bad Request', message: 'channel and event are required' });
    return;
  }
  const timestamp = new Date().toISOString();
  const subscriberCount = publish(channel, event, data, 'api', timestamp);
  res.json({ success: true, message: 'Event broadcast', channel, event, subscriberCount, timestamp });
});

app.post('/api/laravel-broadcast', keyed, (req, res) => {
  const { channels, event, data = {} } = req.body || {};
  if (!Array.isArray(channels) || !event) {
    res.status(400).json({ success: false, error: 'Bad Request', message: 'channels and event are required' });
    return;
  }
  const timestamp = new Date().toISOString();
  const results = channels.map((entry) => {
    const channel = typeof entry === 'string' ? entry : entry.name;
    return { channel, subscriberCount: publish(channel, event, data, 'laravel', timestamp) };
  });
  const totalSubscribers = results.reduce((total, result) => total + result.subscriberCount, 0);
  res.json({
    success: true, message: 'Event broadcast', event, channelCount: results.length,
    totalSubscribers, results, timestamp,
  });
});

server.listen({ port: PORT, host: HOST, backlog: 4096 });

for (const signal of ['SIGINT', 'SIGTERM']) {
  process.on(signal, () => {
    io.close();
    setTimeout(() => process.exit(0), 1000).unref();
  });
}
