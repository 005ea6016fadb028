/**
 * Reads the HTML files of the pages, as far as they go: quoted attributes, void and
 * closed elements, a few entities. The elements have the part of the DOM that
 * localize.js uses.
 */

import {readFileSync, readdirSync} from 'node:fs';

export const publicURL = new URL('../../../public/', import.meta.url);

/** The names of all HTML files of the pages. */
export const htmlNames = readdirSync(publicURL).filter(name => name.endsWith('.html'));

/** @param {string} name a file of public/ */
export const readPublic = name => readFileSync(new URL(name, publicURL), 'utf8');

const voidElements = new Set(['br', 'circle', 'hr', 'img', 'input', 'link', 'meta', 'path', 'rect', 'source', 'wbr']);
const entities = /** @type {Record<string, string>} */ ({amp: '&', lt: '<', gt: '>', quot: '"', nbsp: '\u00a0', shy: '\u00ad'});

/** Element is an element, or with the name #document the root. */
export class Element {
  /** @type {(Element | string)[]} */
  children = [];
  /** @type {Map<string, string>} */
  attributes = new Map();

  /** @param {string} name */
  constructor(name) {
    this.name = name;
  }

  /** @param {string} name */
  getAttribute(name) {
    return this.attributes.get(name) ?? null;
  }

  /** @param {string} name @param {string} value */
  setAttribute(name, value) {
    this.attributes.set(name, value);
  }

  /** @param {(Element | string)[]} children */
  replaceChildren(...children) {
    this.children = children;
  }

  /** @returns {string} */
  get textContent() {
    return this.children.map(child => typeof child === 'string' ? child : child.textContent).join('');
  }

  /** All elements below this one, in the order of the document. @returns {Element[]} */
  get descendants() {
    return this.elements.flatMap(child => [child, ...child.descendants]);
  }

  get elements() {
    return this.children.filter(child => child instanceof Element);
  }

  /** @param {string} selector the name of an element, or [attribute] or [attribute="value"] */
  querySelectorAll(selector) {
    const [, attribute, , value] = /^\[([\w-]+)(="(.*)")?\]$/.exec(selector) ?? [];
    return this.descendants.filter(element => attribute
      ? element.attributes.has(attribute) && (value === undefined || element.getAttribute(attribute) === value)
      : element.name === selector);
  }

  /** @param {string} selector */
  querySelector(selector) {
    return this.querySelectorAll(selector)[0] ?? null;
  }
}

/**
 * Parses a page. Throws if an element is not closed.
 * @param {string} name a file of public/
 */
export function parsePage(name) {
  return parse(readPublic(name));
}

/** @param {string} html */
export function parse(html) {
  const open = [new Element('#document')];
  const token = /<!doctype[^>]*>|<!--.*?-->|<\/(\w+)>|<([\w-]+)((?:\s+[\w-]+(?:="[^"]*")?)*)\s*(\/?)>|([^<]+)|(.)/gs;
  for (const [, closed, opened, attributes, selfClosed, text, unexpected] of html.matchAll(token)) {
    if (unexpected) throw new Error(`cannot parse the page at ${html.slice(html.indexOf(unexpected), 40)}`);
    if (text) open[open.length - 1].children.push(decode(text));
    if (closed && open.pop()?.name !== closed) throw new Error(`unexpected </${closed}>`);
    if (opened) push(open, opened, attributes, selfClosed !== '');
  }
  if (open.length !== 1) throw new Error(`<${open[open.length - 1].name}> is not closed`);
  return open[0];
}

/**
 * @param {Element[]} open the open elements
 * @param {string} name
 * @param {string} attributes
 * @param {boolean} closed
 */
function push(open, name, attributes, closed) {
  const element = new Element(name);
  for (const [, key, , value] of attributes.matchAll(/([\w-]+)(="([^"]*)")?/g)) element.setAttribute(key, decode(value ?? ''));
  open[open.length - 1].children.push(element);
  if (!closed && !voidElements.has(name)) open.push(element);
}

/** @param {string} text */
function decode(text) {
  return text.replace(/&(\w+);/g, (entity, name) => entities[name] ?? entity);
}
