import { h } from './dom.js';
import { now } from './latency.js';

const CLIENT = '/socket.io/socket.io.js';
const MEANINGS = {
  'io server disconnect': 'the server ended the session; the client stays away',
  'io client disconnect': 'by this client',
  'ping timeout': 'nothing arrived in time',
  'transport close': 'the connection was lost',
  'transport error': 'the connection failed',
  'parse error': 'the server sent something that is not Socket.IO',
};
const ANSWERS = new Set(['connected', 'authenticated', 'subscribed', 'unsubscribed', 'pong']);
const ERRORS = new Set(['error', 'subscription_error', 'authentication_error', 'connection_rejected', 'force_disconnect']);

let loading = null;

/** Loads the real socket.io-client the server ships; resolves to its `io`. */
function client() {
  loading ??= new Promise((resolve, reject) => {
    const script = h('script', { src: CLIENT });
    script.onload = () => (window.io ? resolve(window.io) : reject(new Error(`${CLIENT} defines no io`)));
    script.onerror = () => {
      loading = null;
      script.remove();
      reject(new Error(`${CLIENT} could not be loaded`));
    };
    document.head.append(script);
  });
  return loading;
}

/** The same as NativeLink, as the site's own pages do it: with socket.io-client. */
export class SocketIoLink {
  #token;
  #listener;
  #transports;
  #socket = null;
  #stopped = false;
  #ending = '';

  constructor(token, listener, transports) {
    this.#token = token;
    this.#listener = listener;
    this.#transports = transports ?? ['websocket'];
  }

  async open() {
    this.#listener.state('connecting', 'Connecting to /socket.io/ …');
    try {
      const [io, token] = await Promise.all([client(), this.#token()]);
      if (!this.#stopped) this.#start(io, token);
    } catch (error) {
      this.#listener.state('refused', `Not connected: ${error.message}.`);
    }
  }

  #start(io, token) {
    // auth is asked again at every reconnect, and comes before the query
    const auth = (give) => this.#token().catch(() => token).then((fresh) => give({ token: fresh }));
    const socket = io({ path: '/socket.io/', transports: this.#transports, auth, query: { token }, forceNew: true });
    this.#socket = socket;
    socket.on('connect', () => this.#listener.state('connecting', 'Joined; waiting for “connected” …'));
    socket.on('connect_error', (error) => this.#refused(error));
    socket.on('disconnect', (reason) => this.#gone(reason));
    socket.io.on('reconnect_attempt', (n) => this.#listener.state('connecting', `Coming back, attempt ${n} …`));
    socket.onAny((event, data) => this.#received(event, data, now()));
  }

  close() {
    this.#stopped = true;
    this.#socket?.disconnect();
    this.#listener.state('closed', 'Disconnected by you.');
  }

  subscribe(channel) {
    this.#socket?.emit('subscribe', { channel });
  }

  unsubscribe(channel) {
    this.#socket?.emit('unsubscribe', { channel });
  }

  send(event, data) {
    this.#socket?.emit(event, data);
  }

  #received(event, data, at) {
    const kind = ERRORS.has(event) ? 'error' : ANSWERS.has(event) ? 'answer' : 'event';
    this.#listener.message({ kind, event, channel: typeof data?.channel === 'string' ? data.channel : undefined, data, at });
    if (event === 'connected') this.#listener.connected(data);
    else if (event === 'subscribed' || event === 'unsubscribed') this.#listener.subscription(data.channel, event);
    else if (event === 'subscription_error') this.#listener.subscription(data?.channel, 'refused', data?.error);
    else if (event === 'connection_rejected') this.#ending = data?.message ?? data?.reason;
    else if (event === 'force_disconnect') this.#ending = data?.reason;
  }

  #refused(error) {
    this.#listener.message({ kind: 'error', event: 'connect_error', data: { message: error.message, ...error.data }, at: now() });
    if (this.#socket.active) this.#listener.state('waiting', `No connection: ${error.message}. Trying again …`);
    else this.#listener.state('refused', `Refused: ${error.message}.`);
  }

  #gone(reason) {
    if (this.#stopped) return;
    const text = `Closed: ${reason}, ${MEANINGS[reason] ?? 'a reason this console does not know'}${this.#ending ? ` (${this.#ending})` : ''}.`;
    this.#ending = '';
    if (this.#socket.active) this.#listener.state('waiting', `${text} Coming back …`);
    else this.#listener.state('closed', text);
  }
}
