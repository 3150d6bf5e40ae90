/** The WebSocket by which the server tells its figures, once a second. Comes back by itself. */

const LONGEST = 10_000;

export class Live {
  /** @param {{welcome: Function, figures: Function, refused: Function, lost: Function}} told */
  constructor(secret, told) {
    this.secret = secret;
    this.told = told;
    this.ended = false;
    this.delay = 500;
    this.connect();
  }

  connect() {
    const url = `${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/dashboard/live`;
    const socket = new WebSocket(url);
    this.socket = socket;
    socket.addEventListener('open', () => socket.send(JSON.stringify(asCredentials(this.secret))));
    socket.addEventListener('message', (event) => this.heard(JSON.parse(event.data)));
    socket.addEventListener('close', () => this.closed());
  }

  heard(message) {
    if (message.type === 'welcome') {
      this.delay = 500;
      this.told.welcome(message);
    } else if (message.type === 'figures') {
      this.told.figures(message);
    } else if (message.type === 'refused') {
      this.end();
      this.told.refused(message.message);
    }
  }

  closed() {
    if (this.ended) return;
    this.told.lost();
    this.timer = setTimeout(() => this.connect(), this.delay * (0.5 + Math.random()));
    this.delay = Math.min(LONGEST, this.delay * 2);
  }

  end() {
    this.ended = true;
    clearTimeout(this.timer);
    this.socket.close();
  }
}

/** A JWT has two dots; a key may not be mistaken for one. */
export function isToken(secret) {
  return /^[\w-]+\.[\w-]+\.[\w-]+$/.test(secret);
}

function asCredentials(secret) {
  return isToken(secret) ? { token: secret } : { key: secret };
}

/** Asks the HTTP API; throws what it says is wrong. */
export async function api(secret, method, path, body) {
  const headers = isToken(secret) ? { Authorization: `Bearer ${secret}` } : { 'X-Admin-Key': secret };
  if (body !== undefined) headers['Content-Type'] = 'application/json';
  const answer = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  const said = await answer.json().catch(() => ({}));
  if (!answer.ok) {
    const details = (said.details ?? []).map((each) => `${each.field}: ${each.message}`).join('; ');
    throw new Error(details || said.message || `The server answered ${answer.status}`);
  }
  return said;
}
