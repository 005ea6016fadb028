/** Creates elements. Text is always inserted as text, never as HTML. */

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
 * Sets the text of an element if it changed, so that screen readers do not announce
 * it twice.
 * @param {Element} element
 * @param {string} text
 */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
