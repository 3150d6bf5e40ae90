/** Makes an element; strings become text nodes, so nothing received is ever parsed as HTML. */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === 'dataset') Object.assign(element.dataset, value);
    else if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? '' : String(value));
  }
  element.append(...children);
  return element;
}

/** The parts of a cloned template by their data-part, each given a data-testid `<prefix>-<part>`. */
export function partsOf(root, prefix) {
  const parts = {};
  for (const element of root.querySelectorAll('[data-part]')) {
    parts[element.dataset.part] = element;
    element.dataset.testid = `${prefix}-${element.dataset.part}`;
  }
  return parts;
}

const two = (n) => String(n).padStart(2, '0');

/** hh:mm:ss.mmm, local time. */
export function clock(milliseconds) {
  const d = new Date(milliseconds);
  return `${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}.${String(d.getMilliseconds()).padStart(3, '0')}`;
}
