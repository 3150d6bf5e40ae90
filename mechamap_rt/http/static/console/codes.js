// What a close code means, and when to come back: docs/protocols.rst, "Close codes".
const CODES = {
  1000: ['normal closure', 'no'],
  1001: ['the server is going away', 'later'],
  1003: ['unsupported data: a binary message', 'no'],
  1006: ['the connection was lost, or the server could not be reached', 'later'],
  1007: ['invalid payload: text that is not UTF-8', 'no'],
  1009: ['message too big', 'no'],
  1011: ['server error', 'later'],
  1012: ['service restart', 'later'],
  4000: ['bad message, ten times in a row', 'no'],
  4001: ['authentication failed', 'no'],
  4002: ['authentication timeout: no token came in time', 'no'],
  4003: ['token expired', 'no'],
  4004: ['disconnected by an administrator', 'no'],
  4100: ['connection throttled: too many attempts or connections', 'later'],
  4101: ['user limit reached: too many connections of this user', 'later'],
  4102: ['global limit reached: the server is full', 'later'],
  4103: ['heartbeat timeout: nothing arrived in time', 'later'],
  4200: ['slow consumer: too much was waiting for this client', 'now'],
};

/** @returns {{meaning: string, comeBack: 'no'|'later'|'now'}} */
export function explain(code) {
  const [meaning, comeBack] = CODES[code] ?? [null, code >= 4200 && code < 4300 ? 'now' : code >= 4100 && code < 4200 ? 'later' : 'no'];
  return { meaning: meaning ?? 'a code this console does not know', comeBack };
}
