/**
 * The share box: a QR code and the link for the other device, with buttons to copy
 * and share the link. On localhost, the link has an address of the network, which
 * the user can choose.
 */

import {fetchOrigins, isLoopback, linkAt} from './addresses.js';
import {button, create} from './dom.js';
import * as strings from './strings.js';
import {encode} from './third-party/uqr.js';

const texts = strings.share;
const SVG = 'http://www.w3.org/2000/svg';
/** Width of the quiet zone in modules, as the QR code standard requires. */
const QUIET_ZONE = 4;
/** Milliseconds that a button shows the result of a press. */
const RESULT_TIME = 2_000;
/** The item of localStorage with the origin that the user has chosen. */
const CHOSEN_ORIGIN = 'inbox.origin';

let lastId = 0;

/** ShareBox fills the share box of a page: its elements .share-qr and .share-controls. */
export class ShareBox {
  #box;
  #qr;
  #controls;
  #field;
  #fields;
  #localLink;
  #link;

  /**
   * @param {HTMLElement} box
   * @param {string} link as this browser opens it
   */
  constructor(box, link) {
    this.#box = box;
    this.#localLink = this.#link = link;
    this.#qr = /** @type {HTMLElement} */ (box.querySelector('.share-qr'));
    this.#controls = /** @type {HTMLElement} */ (box.querySelector('.share-controls'));
    const id = `share-link-${++lastId}`;
    this.#field = create('input', {id, class: 'share-link', type: 'text', readonly: true, spellcheck: 'false', autocomplete: 'off', dir: 'ltr'});
    this.#field.addEventListener('focus', () => this.#field.select());
    this.#fields = create('div', {class: 'share-fields', hidden: true},
      create('label', {class: 'field-label', for: id}, texts.link),
      create('div', {class: 'share-row'}, this.#field, copyButton(this.#field), ...shareButtons(() => this.#link)));
    this.#controls.replaceChildren(this.#fields, secretNote(link));
    if (isLoopback(location.hostname)) void this.#askForAddresses();
    else this.#show(link);
  }

  /** The link for another device. On localhost without another address, it only opens on this device. */
  get link() {
    return this.#link;
  }

  /**
   * Replaces the link, which has another guest pass.
   * @param {string} link as this browser opens it
   */
  setLink(link) {
    this.#localLink = link;
    const {origin} = new URL(this.#link);
    /** @type {HTMLAnchorElement} */ (this.#controls.querySelector('.share-open')).href = link;
    if (!this.#fields.hidden) this.#show(linkAt(link, origin));
  }

  async #askForAddresses() {
    this.#qr.hidden = true;
    const origins = await fetchOrigins(new URL('addresses', document.baseURI));
    if (!origins?.length) return this.#showNoLink(origins ? texts.unreachable : localOnly());
    const chosen = chosenOrigin(origins);
    if (origins.length > 1) this.#controls.prepend(...addressChoice(origins, chosen, origin => this.#choose(origin)));
    this.#show(linkAt(this.#localLink, chosen));
  }

  /** @param {string} reason */
  #showNoLink(reason) {
    this.#box.classList.add('share-no-link');
    this.#controls.prepend(create('p', {class: 'share-local', role: 'status'}, reason));
  }

  /** @param {string} origin */
  #choose(origin) {
    keepOrigin(origin);
    this.#show(linkAt(this.#localLink, origin));
  }

  /** @param {string} link */
  #show(link) {
    this.#link = this.#field.value = link;
    this.#fields.hidden = this.#qr.hidden = false;
    this.#qr.replaceChildren(qrCode(link));
  }
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
  svg.setAttribute('aria-label', texts.qrCode);
  const path = document.createElementNS(SVG, 'path');
  path.setAttribute('d', data.flatMap((row, y) => row.map((dark, x) => (dark ? `M${x} ${y}h1v1h-1z` : ''))).join(''));
  svg.append(path);
  return svg;
}

/** Says how to open the page so that it has a link for other devices. */
function localOnly() {
  const address = `${location.protocol}//${texts.addressExample}${location.port && `:${location.port}`}/`;
  return texts.localOnly({address});
}

/**
 * Returns a list of the addresses of this computer, which can be in several networks.
 * @param {string[]} origins
 * @param {string} chosen
 * @param {(origin: string) => void} onChoice
 */
function addressChoice(origins, chosen, onChoice) {
  const id = `share-address-${++lastId}`;
  const select = create('select', {id, class: 'share-address', dir: 'ltr'},
    ...origins.map(origin => create('option', {value: origin, selected: origin === chosen}, new URL(origin).host)));
  select.addEventListener('change', () => onChoice(select.value));
  return [create('label', {class: 'field-label', for: id}, texts.address), select];
}

/** @param {string[]} origins */
function chosenOrigin(origins) {
  try {
    const kept = localStorage.getItem(CHOSEN_ORIGIN) ?? '';
    return origins.includes(kept) ? kept : origins[0];
  } catch {
    return origins[0]; // storage is blocked
  }
}

/** @param {string} origin */
function keepOrigin(origin) {
  try {
    localStorage.setItem(CHOSEN_ORIGIN, origin);
  } catch {
    // Storage is blocked: the choice applies until the page is closed.
  }
}

/** @param {string} link */
function secretNote(link) {
  const open = create('a', {class: 'share-open', href: link, target: '_blank', rel: 'noopener'}, texts.openHere);
  return create('p', {class: 'share-secret'}, create('span', {class: 'share-key'}, `${texts.secret} `), open);
}

/** @param {HTMLInputElement} field */
function copyButton(field) {
  const copy = button(texts.copy, async () => {
    try {
      await navigator.clipboard.writeText(field.value);
      copy.textContent = texts.copied;
    } catch {
      field.focus(); // selects the link, so that the user can copy it
      copy.textContent = texts.copyKey;
    }
    setTimeout(() => (copy.textContent = texts.copy), RESULT_TIME);
  }, {class: 'button button-quiet share-copy'});
  return copy;
}

/**
 * Returns a button that opens the share menu of the device, if it has one.
 * @param {() => string} link
 */
function shareButtons(link) {
  if (typeof navigator.share !== 'function') return [];
  const share = () => void navigator.share({title: 'inbox', url: link()}).catch(() => {}); // the user cancelled
  return [button(texts.send, share, {class: 'button button-quiet share-send'})];
}
