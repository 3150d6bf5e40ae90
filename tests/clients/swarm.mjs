// Very many socket.io-clients in one Node process, which subscribe by themselves, come back by themselves and keep
// account of what they saw (tests/clients/accounts.py). One JSON object per line in either direction.
//
// in   {"call": 1, "do": "add", "version": "4.8", "url": "http://…", "kind": "polling", "options": {…},
//       "keepAlive": false, "clients": [{"name": "a", "token": "…", "channel": "public.1"}, …]}
//      {"call": 2, "do": "counts"} → {"subscribed": …, "upgraded": …, "received": …}
//      {"call": 3, "do": "report"} → [account, …]
//      {"call": 4, "do": "close"}
// out  {"call": 2, "result": …} or {"call": 2, "error": "…"}

import http from "node:http";
import https from "node:https";
import { createInterface } from "node:readline";

const NEWEST = "4.8";
const EVENT = "tick";
const libraries = new Map();
let members = [];

async function library(version) {
  if (!libraries.has(version)) {
    const name = version === NEWEST ? "socket.io-client" : `socket.io-client-${version}`;
    const module = await import(name);
    libraries.set(version, module.io ?? module.default);
  }
  return libraries.get(version);
}

const now = () => Date.now() / 1000;

function join(io, url, kind, options, one) {
  const given = { auth: { token: one.token }, query: { token: one.token } };
  const socket = io(url, { ...given, ...options, forceNew: true });
  const account = { name: one.name, kind, channel: one.channel, stays: [], refused: 0, upgraded: 0, why: [] };
  let stay = null;
  socket.on("connect", () => {
    const mine = { began: now(), subscribed: null, left: null, how: "", seen: [] };
    stay = mine;
    account.stays.push(mine);
    socket.emit("subscribe", { channel: one.channel }, (answer) => {
      if (answer.status === "success") {
        mine.subscribed = now();
      }
    });
  });
  socket.on(EVENT, (data) => stay?.seen.push(data.n));
  socket.on("disconnect", (reason, details) => {
    const cause = [details?.message ?? details, details?.description, details?.context?.responseText].join(" ").trim();
    if (stay === null) {
      // the session ended before its CONNECT was answered
      account.refused += 1;
      account.why.push(`${reason}: ${cause}`);
      return;
    }
    stay.left = now();
    stay.how = `${reason}: ${cause}`;
    stay = null;
  });
  socket.on("connect_error", (error) => {
    account.refused += 1;
    account.why.push(`connect_error: ${error.message} ${error.description ?? ""} ${error.context?.responseText ?? ""}`);
  });
  socket.io.on("open", () => socket.io.engine.on("upgrade", () => (account.upgraded += 1)));
  return { socket, account };
}

async function act(request) {
  switch (request.do) {
    case "add": {
      const io = await library(request.version);
      // without an agent each request has a connection of its own
      const { Agent } = request.url.startsWith("https") ? https : http;
      const agent = request.keepAlive ? { agent: new Agent({ keepAlive: true, ca: request.options.ca }) } : {};
      const options = { ...agent, ...request.options };
      for (const one of request.clients) {
        members.push(join(io, request.url, request.kind, options, one));
      }
      return null;
    }
    case "counts": {
      const counts = { subscribed: 0, upgraded: 0, received: 0 };
      for (const { account } of members) {
        const last = account.stays.at(-1);
        counts.subscribed += last && last.subscribed !== null && last.left === null ? 1 : 0;
        counts.upgraded += account.upgraded ? 1 : 0;
        counts.received += account.stays.reduce((sum, stay) => sum + stay.seen.length, 0);
      }
      return counts;
    }
    case "report":
      return members.map(({ account }) => account);
    case "close":
      for (const { socket } of members) {
        socket.close();
        socket.io.engine?.close();
      }
      members = [];
      return null;
    default:
      throw new Error(`cannot ${request.do}`);
  }
}

createInterface({ input: process.stdin }).on("line", async (line) => {
  const request = JSON.parse(line);
  try {
    process.stdout.write(JSON.stringify({ call: request.call, result: await act(request) }) + "\n");
  } catch (error) {
    process.stdout.write(JSON.stringify({ call: request.call, error: error.message }) + "\n");
  }
}).on("close", () => process.exit(0));
