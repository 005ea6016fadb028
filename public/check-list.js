/** Shows rows of the self-test as a list: an icon, a name, a state, and sentences. */

import * as strings from './strings.js';

const SVG = 'http://www.w3.org/2000/svg';
const texts = strings.test;

/**
 * @typedef {import('./self-test.js').Row} Row
 * @typedef {import('./self-test.js').RowState} RowState
 */

/** @type {Record<RowState, string>} paths in a box of 24 × 24; states differ in shape, not only in colour */
const icons = {
  waiting: 'M8 12h.01M12 12h.01M16 12h.01',
  running: 'M12 3a9 9 0 1 0 9 9',
  ok: 'm6.5 12.5 3.7 3.7 7.3-8',
  warning: 'M12 4 2.8 20h18.4zM12 10v4.5M12 17.2v.1',
  failed: 'm7.5 7.5 9 9m0-9-9 9',
  skipped: 'M7 12h10',
};

/** CheckList keeps the items of its element up to date, so that only what changes is announced. */
export class CheckList {
  #element;
  /** @type {Map<string, HTMLElement>} the items by check and number */
  #items = new Map();

  /** @param {HTMLElement} element */
  constructor(element) {
    this.#element = element;
  }

  /** @param {Row[]} rows */
  show(rows) {
    const keys = rows.map(({check, number}) => `${check} ${number}`);
    for (const [key, item] of this.#items) {
      if (keys.includes(key)) continue;
      item.remove();
      this.#items.delete(key);
    }
    rows.forEach((row, i) => this.#showRow(keys[i], row, i));
  }

  /**
   * @param {string} key
   * @param {Row} row
   * @param {number} position
   */
  #showRow(key, row, position) {
    let item = this.#items.get(key);
    if (!item) this.#items.set(key, item = createItem());
    if (this.#element.children[position] !== item) this.#element.insertBefore(item, this.#element.children[position] ?? null);
    fillItem(item, row);
  }
}

function createItem() {
  const item = document.createElement('li');
  item.className = 'check';
  const icon = document.createElementNS(SVG, 'svg');
  icon.setAttribute('viewBox', '0 0 24 24');
  icon.setAttribute('class', 'check-icon');
  icon.setAttribute('aria-hidden', 'true');
  icon.append(document.createElementNS(SVG, 'path'));
  item.append(icon);
  for (const name of ['name', 'state', 'text', 'advice']) {
    const part = document.createElement(name === 'name' ? 'strong' : 'span');
    part.className = `check-${name}`;
    item.append(part);
  }
  return item;
}

/**
 * @param {HTMLElement} item
 * @param {Row} row
 */
function fillItem(item, {check, number, state, finding, ms = 0}) {
  if (item.dataset.state !== state) {
    item.dataset.state = state;
    item.querySelector('path')?.setAttribute('d', icons[state]);
  }
  const name = texts.checks[check];
  /** @type {{text: string, advice?: string}} */
  const {text, advice = ''} = texts.findings[finding];
  const time = ms > 0 && (state === 'ok' || state === 'warning') ? ` · ${texts.milliseconds({ms})}` : '';
  setText(item, '.check-name', number > 1 ? texts.numbered({name, number}) : name);
  setText(item, '.check-state', texts.states[state] + time);
  setText(item, '.check-text', text);
  setText(item, '.check-advice', advice);
}

/**
 * @param {Element} item
 * @param {string} selector
 * @param {string} text
 */
function setText(item, selector, text) {
  const part = item.querySelector(selector);
  if (part && part.textContent !== text) part.textContent = text;
}
