/** Makes an element; strings become text nodes, so nothing of the document is ever parsed as HTML. */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? '' : String(value));
  }
  element.append(...children);
  return element;
}

/** Text with `code` in backticks, as nodes. */
export function prose(text) {
  return String(text ?? '').split(/`([^`]+)`/).map((part, at) => (at % 2 ? h('code', {}, part) : part));
}

/** Text of several paragraphs. */
export function paragraphs(text) {
  return String(text ?? '').split(/\n\n+/).filter(Boolean).map((part) => h('p', {}, ...prose(part)));
}

/** A box of code with a button that copies it. */
export function codeBox(text, label) {
  const code = h('code', {}, text);
  const button = h('button', { class: 'copy', type: 'button', 'aria-label': `Copy ${label}` }, 'Copy');
  button.addEventListener('click', async () => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = 'Copied';
    } catch {
      // over plain HTTP a page may not copy: the reader does
      getSelection().selectAllChildren(code);
      button.textContent = 'Press Ctrl-C';
    }
    setTimeout(() => { button.textContent = 'Copy'; }, 1500);
  });
  return h('div', { class: 'example' }, h('pre', { tabindex: 0 }, code), button);
}
