/** JSON Schema, read to people: tables of members, with types and bounds. */
import { h, prose } from './dom.js';

const DEPTH = 4;

/** Follows `$ref` within the document. */
export function resolved(doc, value) {
  let found = value;
  for (let hop = 0; found && found.$ref && hop < 8; hop += 1) {
    const path = found.$ref.slice(2).split('/').map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'));
    found = { ...path.reduce((at, name) => at?.[name], doc), ...(found.description && { description: found.description }) };
  }
  return found ?? {};
}

const variants = (schema) => schema.oneOf ?? schema.anyOf;

/** A schema's type in a few words. */
export function typeOf(doc, value, depth = 0) {
  const schema = resolved(doc, value);
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((each) => JSON.stringify(each)).join(' | ');
  const several = variants(schema);
  if (several && depth < DEPTH) return [...new Set(several.map((each) => typeOf(doc, each, depth + 1)))].join(' | ');
  const type = [schema.type ?? 'any'].flat();
  return type.map((each) => (each !== 'array' ? each : schema.items ? `list of ${typeOf(doc, schema.items, depth + 1)}` : 'empty list')).join(' | ');
}

// the largest ids are more than a number is exact for here
const shown = (number) => (number > Number.MAX_SAFE_INTEGER ? '2⁶³−1' : number.toLocaleString('en', { maximumFractionDigits: 3 }));

function boundsOf(schema) {
  const words = [];
  const between = (low, high, unit) => {
    if ((low === undefined && high === undefined) || high === 0) return;
    const text = low === undefined ? `at most ${shown(high)}` : high === undefined ? `at least ${shown(low)}` : `${shown(low)} to ${shown(high)}`;
    words.push(unit ? `${text} ${unit}` : text);
  };
  between(schema.minimum ?? schema.exclusiveMinimum, schema.maximum, '');
  between(schema.minLength, schema.maxLength, 'characters');
  between(schema.minItems, schema.maxItems, 'of them');
  if (schema.pattern) words.push(`matches ${schema.pattern}`);
  if (schema.default !== undefined) words.push(`default ${typeof schema.default === 'number' ? shown(schema.default) : JSON.stringify(schema.default)}`);
  return words.join(', ');
}

function mark(required, prefix, answer) {
  if (answer) return required ? [] : [h('span', { class: 'required' }, 'not always')];
  return required && !prefix ? [h('span', { class: 'required' }, 'required')] : [];
}

function rows(doc, schema, prefix, depth, answer) {
  const required = new Set(schema.required ?? []);
  return Object.entries(schema.properties ?? {}).flatMap(([name, value]) => {
    const member = resolved(doc, value);
    const full = prefix + name;
    const bounds = boundsOf(member);
    const row = h('tr', {},
      h('td', {}, h('code', {}, full), ...mark(required.has(name), prefix, answer)),
      h('td', { class: 'type' }, typeOf(doc, member)),
      h('td', {}, h('p', {}, ...prose(member.description ?? member.title)), ...(bounds ? [h('p', { class: 'bounds' }, bounds)] : [])));
    if (depth >= DEPTH) return [row];
    const inner = member.properties ? [member, `${full}.`] : resolved(doc, member.items ?? {}).properties ? [resolved(doc, member.items), `${full}[].`] : null;
    return inner ? [row, ...rows(doc, inner[0], inner[1], depth + 1, answer)] : [row];
  });
}

/** Tables of an object's members; one for each form that it may have. Of an answer those are marked that may be missing. */
export function tables(doc, value, { answer = false } = {}) {
  const schema = resolved(doc, value);
  const forms = schema.properties ? [schema] : (variants(schema) ?? (schema.allOf ? [merged(doc, schema.allOf)] : [])).map((each) => resolved(doc, each));
  const all = forms.filter((form) => form.properties || form.allOf);
  if (!all.length) return [h('p', { class: 'type' }, typeOf(doc, schema))];
  return all.flatMap((form, at) => [
    ...(all.length > 1 ? [h('p', { class: 'variant' }, ...prose(form.description ?? `Form ${at + 1}`))] : []),
    h('div', { class: 'scroll' }, h('table', {},
      h('thead', {}, h('tr', {}, ...['Member', 'Type', 'Meaning'].map((each) => h('th', { scope: 'col' }, each)))),
      h('tbody', {}, ...rows(doc, form.allOf ? merged(doc, form.allOf) : form, '', 0, answer)))),
  ]);
}

function merged(doc, parts) {
  return parts.map((each) => resolved(doc, each)).reduce((whole, part) => ({
    ...whole, ...part,
    properties: { ...whole.properties, ...part.properties },
    required: [...(whole.required ?? []), ...(part.required ?? [])],
  }), {});
}
