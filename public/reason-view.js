/** Shows the actions of a reason or of an error as links and buttons. */

/**
 * @typedef {import('./reason.js').Action} Action
 */

/** @type {WeakMap<Element, string>} what an element shows, so that it is not replaced under the user's finger */
const shown = new WeakMap();

/**
 * Shows actions in an element, or none. The test page opens in another tab, because
 * the call goes on trying.
 * @param {Element} element
 * @param {Action[]} actions
 * @param {() => void} retry runs when the user presses "Try again now"
 */
export function showActions(element, actions, retry) {
  const key = JSON.stringify(actions);
  if ((shown.get(element) ?? '[]') === key) return;
  shown.set(element, key);
  element.replaceChildren(...actions.map(action => createControl(action, retry)));
}

/**
 * @param {Action} action
 * @param {() => void} retry
 */
function createControl({kind, text}, retry) {
  const control = document.createElement(kind === 'test-page' ? 'a' : 'button');
  control.className = 'button button-quiet';
  control.textContent = text;
  if (control instanceof HTMLAnchorElement) Object.assign(control, {href: 'test.html', target: '_blank', rel: 'noopener'});
  else control.type = 'button';
  if (kind === 'retry') control.addEventListener('click', retry);
  if (kind === 'reload') control.addEventListener('click', () => location.reload());
  return control;
}
