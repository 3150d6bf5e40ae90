import { Channels } from './channels.js';
import { h, partsOf } from './dom.js';
import { Latencies, latencyOf, milliseconds, now } from './latency.js';
import { EventLog } from './log.js';
import { NativeLink } from './native.js';
import { SocketIoLink } from './socketio.js';
import { TypingOut, Typists } from './typing.js';

const OVER = new Set(['idle', 'refused', 'closed']); // states with no connection to end
const TALK = /^(private-|presence-)?(thread|conversation|group)\./; // where people write

/** One person in front of one browser. */
export class Pane {
  #parts;
  #config;
  #link = null;
  #channels;
  #log;
  #latencies = new Latencies();
  #typing;
  #typists;
  #typingIn = ''; // the channel somebody chose to type in

  /** @param {{current: object, fresh: () => Promise<object>}} config config.json as last read, and read again */
  constructor(template, side, config, userIndex) {
    const root = template.content.firstElementChild.cloneNode(true);
    this.root = root;
    this.#config = config;
    const parts = (this.#parts = { ...partsOf(root, side), prefix: side });
    root.dataset.testid = side;
    root.setAttribute('aria-label', `${side} user`);
    parts['log-region'].setAttribute('aria-label', `Event log of the ${side} user`);

    const { users, channels, socketio } = config.current;
    parts.user.append(...users.map((user) => h('option', { value: user.id }, `${user.name} · ${user.role}`)));
    parts.user.selectedIndex = Math.min(userIndex, users.length - 1);
    if (!socketio) {
      const option = parts.protocol.options[1];
      option.disabled = true;
      option.textContent += ' (client not built: make bundle)';
    }

    this.#log = new EventLog(parts.log, () => this.#drawLatency());
    this.#typists = new Typists(parts.typists);
    this.#typing = new TypingOut((event, channel) => this.#send(event, { channel }));
    this.#channels = new Channels(parts, channels, () => this.#drawTyping());
    this.#listen();
    this.#drawUser();
    this.#drawTyping();
  }

  #listen() {
    const { who, user, typing, clear, 'typing-text': text, 'typing-channel': channel } = this.#parts;
    who.addEventListener('submit', (event) => {
      event.preventDefault();
      if (this.#link) this.#disconnect();
      else this.#connect();
    });
    user.addEventListener('change', () => this.#drawUser());
    typing.addEventListener('submit', (event) => {
      event.preventDefault();
      text.value = '';
      this.#typing.nudge(channel.value);
    });
    channel.addEventListener('change', () => (this.#typingIn = channel.value));
    text.addEventListener('input', () => this.#typing.nudge(channel.value));
    text.addEventListener('blur', () => text.value && this.#typing.stop());
    clear.addEventListener('click', () => {
      this.#latencies.clear();
      this.#log.clear();
    });
  }

  #connect() {
    const id = Number(this.#parts.user.value);
    // tokens of the demo are short-lived: ask for a fresh one at every attempt
    const token = async () => (await this.#config.fresh()).users.find((user) => user.id === id)?.token;
    const link = this.#parts.protocol.value === 'socketio'
      ? new SocketIoLink(token, this.#listener(), this.#config.current.transports)
      : new NativeLink(token, this.#listener());
    this.#link = link;
    link.open();
  }

  #disconnect() {
    this.#typing.stop();
    this.#link.close();
  }

  #listener() {
    return {
      state: (state, text) => this.#state(state, text),
      connected: (welcome) => this.#connected(welcome),
      subscription: (channel, state, error) => this.#channels.answered(channel, state, error),
      message: (message) => this.#message(message),
    };
  }

  #state(state, text) {
    if (OVER.has(state)) this.#link = null;
    if (state !== 'connected') {
      this.#typing.forget();
      this.#typists.clear();
      this.#channels.disconnected();
    }
    const { status, connect, user, protocol } = this.#parts;
    status.dataset.state = state;
    status.textContent = text;
    connect.textContent = this.#link ? 'Disconnect' : 'Connect';
    connect.classList.toggle('primary', !this.#link);
    user.disabled = protocol.disabled = Boolean(this.#link);
  }

  #connected({ userId, socketId, channels }) {
    const user = this.#config.current.users.find(({ id }) => id === userId);
    this.#state('connected', `Connected as ${user?.name ?? 'user'} (id ${userId}), socket ${socketId}`);
    this.#channels.connected(this.#link, channels ?? []);
  }

  #message(message) {
    const latency = message.kind === 'event' ? latencyOf(message.data, message.at) : null;
    if (latency !== null) this.#latencies.add(latency);
    if (message.kind === 'event') this.#typists.heard(message.event, message.data);
    this.#log.add({ ...message, latency });
  }

  #send(event, data) {
    if (!this.#link) return;
    this.#link.send(event, data);
    this.#message({ kind: 'sent', event, channel: data.channel, data, at: now() });
  }

  #drawUser() {
    const user = this.#config.current.users[this.#parts.user.selectedIndex];
    const words = (user?.name ?? '?').trim().split(/\s+/);
    this.#parts.avatar.textContent = words.at(-1)[0]; // Vietnamese given names come last
    this.#parts.avatar.dataset.index = this.#parts.user.selectedIndex % 3;
  }

  #drawTyping() {
    const { 'typing-channel': select, 'typing-text': text, 'typing-send': button } = this.#parts;
    const names = this.#channels.subscribed.sort((a, b) => TALK.test(b) - TALK.test(a));
    const kept = names.includes(this.#typingIn) ? this.#typingIn : names[0];
    select.replaceChildren(...(names.length ? names.map((name) => h('option', {}, name)) : [h('option', { value: '' }, 'no channel')]));
    if (kept) select.value = kept;
    select.disabled = text.disabled = button.disabled = !names.length;
  }

  #drawLatency() {
    const [p50, p99] = this.#latencies.quantiles(0.5, 0.99);
    this.#parts.p50.textContent = milliseconds(p50);
    this.#parts.p99.textContent = milliseconds(p99);
    this.#parts.count.textContent = String(this.#latencies.count);
    this.#parts.empty.hidden = !this.#log.isEmpty;
  }
}
