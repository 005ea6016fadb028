/**
 * The share box: a QR code and the link for the other device, with buttons to
 * copy and share the link.
 */

import {encode} from './third-party/uqr.js';

const SVG = 'http://www.w3.org/2000/svg';
/** Width of the quiet zone in modules, as the QR code standard requires. */
const QUIET_ZONE = 4;

/**
 * Fills the share box of a page.
 * @param {HTMLElement} box the .share element
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
 * Returns a QR code as an SVG element. The style sheet sets its colours.
 * @param {string} text
 */
export function qrCode(text) {
  // Level L has the largest modules. A display needs no more error correction.
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
    field.focus(); // selects the link, so that the user can copy it
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
    navigator.share({title: 'inbox', url: link}).catch(() => {}); // the user cancelled
  });
}
