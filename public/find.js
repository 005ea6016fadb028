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
