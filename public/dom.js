/** Finds and creates elements. Text is always inserted as text, never as HTML. */

/**
 * Returns the element for a selector. Throws if it is missing or of another type.
 * @template {Element} T
 * @param {string} selector
 * @param {new () => T} kind
 * @returns {T}
 */
export function find(selector, kind) {
  const element = document.querySelector(selector);
  if (element instanceof kind) return element;
  throw new Error(`element not found: ${selector}`);
}

/**
 * Returns a new element. A value of true sets an empty attribute; false, null and
 * undefined set none.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, string | number | boolean | null | undefined>} [attributes]
 * @param {(Node | string)[]} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function create(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value === true ? '' : String(value));
  }
  element.append(...children);
  return element;
}

/**
 * Returns a button of the design.
 * @param {string} label
 * @param {() => void} onPress
 * @param {Record<string, string | boolean>} [attributes]
 */
export function button(label, onPress, attributes = {}) {
  const element = create('button', {type: 'button', class: 'button button-quiet', ...attributes}, label);
  element.addEventListener('click', onPress);
  return element;
}

/**
 * Returns a text of a stranger for the middle of another one: it does not change the order of
 * the letters around it, whatever the direction of its script.
 * @param {string} text
 */
export function isolate(text) {
  return text && `\u2068${text.replace(/[\u202a-\u202e\u2066-\u2069]/g, '')}\u2069`;
}

/**
 * Sets the text of an element if it changed, so that screen readers do not announce
 * it twice.
 * @param {Element} element
 * @param {string} text
 */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
