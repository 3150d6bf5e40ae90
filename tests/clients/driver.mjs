// socket.io-client in Node, controlled over stdin and stdout: one JSON object per line in either direction.
// Bytes are written {"$bytes": "<base64>"}.
//
// in   {"call": 1, "do": "connect", "client": "a", "version": "4.8", "url": "http://…", "options": {…}}
//      {"call": 1, "do": "join", "client": "b", "beside": "a", "namespace": "/admin", "options": {…}}
//      {"call": 2, "do": "emit", "client": "a", "event": "subscribe", "args": […], "ack": 5000 | null}
//      {"call": 2, "do": "chatter", "client": "a", "count": 20, "gap": 2}   with acknowledgements, one each gap
//      {"call": 3, "do": "raw", "client": "a", "text": "42[…"}       straight into the transport's WebSocket
//      {"call": 4, "do": "state" | "open" | "upgrade" | "disconnect" | "close", "client": "a"}
// out  {"call": 2, "result": …} or {"call": 2, "error": "…"}
//      {"client": "a", "event": "connect" | "message" | "disconnect" | …, …}   whatever the client saw

import { createInterface } from "node:readline";

// what package.json calls them; the newest has the plain name
const NEWEST = "4.8";
const libraries = new Map();
const clients = new Map();

async function library(version) {
  if (!libraries.has(version)) {
    const name = version === NEWEST ? "socket.io-client" : `socket.io-client-${version}`;
    const module = await import(name);
    libraries.set(version, module.io ?? module.default);
  }
  return libraries.get(version);
}

function pack(key, value) {
  const given = this[key];
  const bytes = given instanceof ArrayBuffer ? Buffer.from(given) : given;
  return Buffer.isBuffer(bytes) ? { $bytes: bytes.toString("base64") } : value;
}

function unpack(_, value) {
  return typeof value?.$bytes === "string" ? Buffer.from(value.$bytes, "base64") : value;
}

function say(line) {
  process.stdout.write(JSON.stringify(line, pack) + "\n");
}

function watch(name, socket) {
  clients.set(name, socket);
  const report = (event, members) => say({ client: name, event, ...members });
  const active = () => socket.active ?? null;

  socket.on("connect", () =>
    report("connect", { id: socket.id, transport: socket.io.engine.transport.name }));
  socket.on("connect_error", (error) =>
    report("connect_error", { message: error.message, data: error.data ?? null, active: active() }));
  socket.on("disconnect", (reason, details) =>
    report("disconnect", {
      reason,
      active: active(),
      code: details?.context?.code ?? details?.code ?? null,
    }));
  if (socket.onAny) {
    socket.onAny((event, ...args) => report("message", { name: event, args }));
  } else {
    // 2.x: no catch-all, and a refused connect is an 'error'
    const take = socket.onevent;
    socket.onevent = function (packet) {
      report("message", { name: packet.data[0], args: packet.data.slice(1) });
      take.call(this, packet);
    };
    socket.on("error", (error) => report("error", { message: error?.message ?? error }));
  }
  return report;
}

async function connect(name, version, url, options) {
  const io = await library(version);
  const socket = io(url, { ...options, forceNew: true });
  const report = watch(name, socket);
  socket.io.on("open", () => {
    report("open", { transport: socket.io.engine.transport.name });
    socket.io.engine.on("upgrade", (transport) => report("upgrade", { transport: transport.name }));
  });
  socket.io.on("reconnect", (attempt) => report("reconnect", { attempt }));
  socket.io.on("error", (error) => report("manager_error", { message: error.message }));
}

async function emit(socket, event, args, ack) {
  if (ack === null) {
    socket.emit(event, ...args);
    return null;
  }
  return await new Promise((resolve, reject) => {
    const late = () => reject(new Error("no acknowledgement in time"));
    if (socket.timeout) {
      socket.timeout(ack).emit(event, ...args, (error, ...answer) => (error ? late() : resolve(answer)));
    } else {
      const timer = setTimeout(late, ack);
      socket.emit(event, ...args, (...answer) => {
        clearTimeout(timer);
        resolve(answer);
      });
    }
  });
}

// Emit `count` events, one every `gap` milliseconds; gives how often each was acknowledged, when the last one was.
// (Not `ping`, a name that 2.x keeps for itself.)
function chatter(socket, count, gap) {
  const answered = new Array(count).fill(0);
  return new Promise((resolve) => {
    const speak = (number) => {
      socket.emit("unsubscribe", { channel: `public.${number}` }, (answer) => {
        answered[Number(answer.channel.slice("public.".length))] += 1;
        if (number === count - 1) {
          resolve(answered);
        }
      });
      if (number + 1 < count) {
        setTimeout(speak, gap, number + 1);
      }
    };
    speak(0);
  });
}

async function act(request) {
  if (request.do === "connect") {
    await connect(request.client, request.version, request.url, request.options);
    return null;
  }
  if (request.do === "join") {
    watch(request.client, clients.get(request.beside).io.socket(request.namespace, request.options));
    return null;
  }
  const socket = clients.get(request.client);
  if (socket === undefined) {
    throw new Error(`no client ${request.client}`);
  }
  const engine = socket.io.engine;
  switch (request.do) {
    case "emit":
      return await emit(socket, request.event, request.args, request.ack);
    case "chatter":
      return await chatter(socket, request.count, request.gap);
    case "raw":
      engine.transport.ws.send(request.text);
      return null;
    case "open":
      socket.connect();
      return null;
    case "upgrade":
      // for a client with {upgrade: false}: what the library does by itself as soon as it is open
      (engine.probe ?? engine._probe).call(engine, "websocket");
      return null;
    case "state":
      return {
        connected: socket.connected,
        active: socket.active ?? null,
        id: socket.id ?? null,
        transport: engine?.transport?.name ?? null,
      };
    case "disconnect":
      socket.disconnect();
      return null;
    case "close":
      // the manager too, or it would come back for a socket of another namespace
      socket.close();
      socket.io.disconnect();
      clients.delete(request.client);
      return null;
    default:
      throw new Error(`cannot ${request.do}`);
  }
}

createInterface({ input: process.stdin }).on("line", async (line) => {
  const request = JSON.parse(line, unpack);
  try {
    say({ call: request.call, result: await act(request) });
  } catch (error) {
    say({ call: request.call, error: error.message });
  }
}).on("close", () => process.exit(0));
