import { explain } from './codes.js';
import { now } from './latency.js';

const SUBPROTOCOL = 'mechamap.v1.json';
const LONGEST_PAUSE = 30_000;

/**
 * A user's connection in the native protocol (docs/protocols.rst). It comes back by itself when the
 * close code says that this makes sense.
 *
 * @param {() => Promise<string>} token called before every attempt
 * @param {object} listener state(name, text), connected({userId, socketId, channels}),
 *   subscription(channel, state, error?), message({kind, event, channel?, data, at})
 */
export class NativeLink {
  #token;
  #listener;
  #socket = null;
  #requests = new Map();
  #lastId = 0;
  #attempts = 0;
  #timer = 0;
  #refusal = '';
  #stopped = false;

  constructor(token, listener) {
    this.#token = token;
    this.#listener = listener;
  }

  async open() {
    this.#listener.state('connecting', 'Connecting to /ws …');
    let token;
    try {
      token = await this.#token();
    } catch (error) {
      this.#comeBack('later', `No token: ${error.message}`);
      return;
    }
    if (this.#stopped) return;
    this.#refusal = '';
    const socket = new WebSocket(`${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/ws`, SUBPROTOCOL);
    this.#socket = socket;
    socket.onopen = () => {
      this.#listener.state('connecting', 'Open; presenting the token …');
      this.#request({ type: 'auth', token });
    };
    socket.onmessage = (message) => this.#received(message.data, now());
    socket.onclose = (close) => this.#closed(close);
  }

  close() {
    this.#stopped = true;
    clearTimeout(this.#timer);
    this.#requests.clear();
    if (this.#socket) {
      this.#socket.onclose = this.#socket.onmessage = this.#socket.onopen = null;
      this.#socket.close(1000);
    }
    this.#listener.state('closed', 'Disconnected by you.');
  }

  subscribe(channel) {
    this.#request({ type: 'subscribe', channel });
  }

  unsubscribe(channel) {
    this.#request({ type: 'unsubscribe', channel });
  }

  send(event, data) {
    this.#request({ type: 'event', event, data });
  }

  #request(message) {
    if (this.#socket?.readyState !== WebSocket.OPEN) return;
    const id = ++this.#lastId;
    this.#requests.set(id, message);
    this.#socket.send(JSON.stringify({ id, ...message }));
  }

  #received(text, at) {
    const message = JSON.parse(text);
    const request = this.#requests.get(message.id);
    this.#requests.delete(message.id);
    const { type, event, channel, data } = message;
    if (type === 'event') {
      this.#listener.message({ kind: 'event', event, channel, data, at });
    } else if (type === 'connected') {
      this.#attempts = 0;
      this.#listener.message({ kind: 'answer', event: 'connected', data: message, at });
      this.#listener.connected(message);
    } else if (type === 'reply') {
      const about = request?.channel ?? request?.data?.channel ?? data?.channel;
      this.#listener.message({ kind: 'answer', event, channel: about, data, at });
      if (event === 'subscribed' || event === 'unsubscribed') this.#listener.subscription(about, event);
    } else if (type === 'error') {
      this.#failed(message, request, at);
    }
  }

  #failed(message, request, at) {
    const reason = message.error ?? message.code;
    const channel = request?.channel ?? request?.data?.channel;
    this.#listener.message({ kind: 'error', event: message.code, channel, data: message, at });
    if (request?.type === 'subscribe') this.#listener.subscription(channel, 'refused', `${reason} (${message.code})`);
    else this.#refusal = reason;
  }

  #closed({ code, reason }) {
    this.#requests.clear();
    if (code === 4001) {
      this.#stopped = true;
      this.#listener.state('refused', `Refused: ${this.#refusal || reason || 'authentication failed'} (${code}).`);
      return;
    }
    const { meaning, comeBack } = explain(code);
    const said = reason && !meaning.startsWith(reason.replaceAll('_', ' ')) ? `${meaning} – “${reason}”` : meaning;
    this.#comeBack(comeBack, `Closed ${code}: ${said}.`);
  }

  #comeBack(when, text) {
    if (when === 'no') {
      this.#listener.state('closed', text);
      return;
    }
    const pause = when === 'now' && this.#attempts === 0 ? 100 : Math.min(LONGEST_PAUSE, 1000 * 2 ** this.#attempts);
    this.#attempts += 1;
    const wait = pause * (0.75 + Math.random() / 2); // a whole community must not come back in the same instant
    this.#listener.state('waiting', `${text} Trying again in ${(wait / 1000).toFixed(1)} s …`);
    this.#timer = setTimeout(() => this.open(), wait);
  }
}
