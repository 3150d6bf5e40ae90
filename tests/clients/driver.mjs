// socket.io-client in Node, controlled over stdin and stdout: one JSON object per line in either direction.
//
// in   {"call": 1, "do": "connect", "client": "a", "url": "http://…", "options": {…}}
//      {"call": 2, "do": "emit", "client": "a", "event": "subscribe", "args": […], "ack": 5000 | null}
//      {"call": 3, "do": "raw", "client": "a", "text": "42[…"}       straight into the transport's WebSocket
//      {"call": 4, "do": "state" | "open" | "close", "client": "a"}
// out  {"call": 2, "result": …} or {"call": 2, "error": "…"}
//      {"client": "a", "event": "connect" | "message" | "disconnect" | …, …}   whatever the client saw

import { createInterface } from "node:readline";
import { io } from "socket.io-client";

const clients = new Map();

function say(line) {
  process.stdout.write(JSON.stringify(line) + "\n");
}

function connect(name, url, options) {
  const socket = io(url, { ...options, forceNew: true });
  clients.set(name, socket);
  const report = (event, members) => say({ client: name, event, ...members });

  socket.on("connect", () =>
    report("connect", { id: socket.id, transport: socket.io.engine.transport.name }));
  socket.on("connect_error", (error) =>
    report("connect_error", { message: error.message, data: error.data ?? null, active: socket.active }));
  socket.on("disconnect", (reason, details) =>
    report("disconnect", {
      reason,
      active: socket.active,
      code: details?.context?.code ?? details?.code ?? null,
    }));
  socket.onAny((event, ...args) => report("message", { name: event, args }));
  socket.io.on("reconnect", (attempt) => report("reconnect", { attempt }));
  socket.io.on("error", (error) => report("manager_error", { message: error.message }));
}

async function emit(socket, event, args, ack) {
  if (ack === null) {
    socket.emit(event, ...args);
    return null;
  }
  return await new Promise((resolve, reject) =>
    socket.timeout(ack).emit(event, ...args, (error, ...answer) =>
      error ? reject(new Error("no acknowledgement in time")) : resolve(answer)));
}

async function act(request) {
  if (request.do === "connect") {
    connect(request.client, request.url, request.options);
    return null;
  }
  const socket = clients.get(request.client);
  if (socket === undefined) {
    throw new Error(`no client ${request.client}`);
  }
  switch (request.do) {
    case "emit":
      return await emit(socket, request.event, request.args, request.ack);
    case "raw":
      socket.io.engine.transport.ws.send(request.text);
      return null;
    case "open":
      socket.connect();
      return null;
    case "state":
      return {
        connected: socket.connected,
        active: socket.active,
        id: socket.id ?? null,
        transport: socket.io.engine?.transport?.name ?? null,
      };
    case "close":
      socket.close();
      socket.io.engine?.close();
      clients.delete(request.client);
      return null;
    default:
      throw new Error(`cannot ${request.do}`);
  }
}

createInterface({ input: process.stdin }).on("line", async (line) => {
  const request = JSON.parse(line);
  try {
    say({ call: request.call, result: await act(request) });
  } catch (error) {
    say({ call: request.call, error: error.message });
  }
}).on("close", () => process.exit(0));
