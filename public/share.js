/**
 * The box that brings the other device here: a QR code, the link, and ways to
 * pass it on.
 */

import {encode} from './third-party/uqr.js';

const SVG = 'http://www.w3.org/2000/svg';
/** Empty modules around a code; readers expect four. */
const QUIET_ZONE = 4;

/**
 * @param {HTMLElement} box with the elements that the pages have
 * @param {string} link
 */
export function fillShareBox(box, link) {
  const field = /** @type {HTMLInputElement} */ (box.querySelector('.share-link'));
  field.value = link;
  field.addEventListener('focus', () => field.select());
  box.querySelector('.share-qr')?.replaceChildren(qrCode(link));
  box.querySelector('.share-open')?.setAttribute('href', link);
  const copy = /** @type {HTMLButtonElement} */ (box.querySelector('.share-copy'));
  copy.addEventListener('click', () => copyLink(field, copy));
  setUpShareButton(/** @type {HTMLButtonElement} */ (box.querySelector('.share-send')), link);
}

/**
 * A QR code as a picture whose colours the style sheet decides.
 * @param {string} text
 */
export function qrCode(text) {
  // The least correction makes the largest modules; a display has no stains.
  const {size, data} = encode(text, {ecc: 'L', border: QUIET_ZONE});
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('viewBox', `0 0 ${size} ${size}`);
  svg.setAttribute('role', 'img');
  svg.setAttribute('aria-label', 'QR code of the link');
  const path = document.createElementNS(SVG, 'path');
  path.setAttribute('d', data.flatMap((row, y) => row.map((dark, x) => (dark ? `M${x} ${y}h1v1h-1z` : ''))).join(''));
  svg.append(path);
  return svg;
}

/**
 * @param {HTMLInputElement} field
 * @param {HTMLButtonElement} button
 */
async function copyLink(field, button) {
  const label = button.textContent;
  try {
    await navigator.clipboard.writeText(field.value);
    button.textContent = 'Copied';
  } catch {
    field.focus(); // which selects it: the person copies by hand
    button.textContent = 'Press Ctrl+C';
  }
  setTimeout(() => (button.textContent = label), 2_000);
}

/**
 * @param {HTMLButtonElement} button
 * @param {string} link
 */
function setUpShareButton(button, link) {
  button.hidden = typeof navigator.share !== 'function';
  button.addEventListener('click', () => {
    navigator.share({title: 'inbox', url: link}).catch(() => {}); // the person changed their mind
  });
}
