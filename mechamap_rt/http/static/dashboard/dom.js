/** Makes an element; strings become text nodes, so nothing that the server says is ever parsed as HTML. */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  set(element, props);
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** The same for SVG. */
export function s(tag, props = {}, ...children) {
  const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
  set(element, props);
  element.append(...children);
  return element;
}

function set(element, props) {
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (name === 'width%') element.style.width = `${value}%`;
    else element.setAttribute(name, value === true ? '' : String(value));
  }
}

export const $ = (id) => document.getElementById(id);

/** 1234567 as 1,234,567; from ten million on in millions. */
export function count(number) {
  if (number >= 1e7) return `${(number / 1e6).toFixed(1)} M`;
  return Math.round(number).toLocaleString('en-GB');
}

/** A rate: few digits, whatever its size. */
export function rate(number) {
  if (number >= 100) return count(number);
  return number >= 10 ? number.toFixed(0) : number.toFixed(number > 0 && number < 1 ? 2 : 1);
}

/** Seconds as milliseconds, in three digits. */
export function millis(seconds) {
  const value = seconds * 1000;
  if (value >= 1000) return `${(value / 1000).toFixed(2)} s`;
  return `${value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2)} ms`;
}

export function bytes(number) {
  for (const [unit, size] of [['GB', 2 ** 30], ['MB', 2 ** 20], ['kB', 2 ** 10]]) {
    if (number >= size) return `${(number / size).toFixed(number >= 100 * size ? 0 : 1)} ${unit}`;
  }
  return `${Math.round(number)} B`;
}

/** Seconds as the two largest units. */
export function span(seconds) {
  const units = [['d', 86400], ['h', 3600], ['min', 60], ['s', 1]];
  const at = Math.max(0, units.findIndex(([, size]) => seconds >= size));
  if (seconds < 1) return '0 s';
  const [unit, size] = units[at];
  const whole = Math.floor(seconds / size);
  const next = units[at + 1];
  const rest = next ? Math.floor((seconds - whole * size) / next[1]) : 0;
  return rest ? `${whole} ${unit} ${rest} ${next[0]}` : `${whole} ${unit}`;
}

/** A moment (ISO text or seconds) as the clock shows it here. */
export function clock(moment) {
  const date = typeof moment === 'number' ? new Date(moment * 1000) : new Date(moment);
  return date.toLocaleTimeString('en-GB');
}
