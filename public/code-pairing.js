/**
 * A device that shows a short code, on which the code of another device can be
 * entered as well. It has no user interface: code-box.js has one.
 *
 *     const pairing = new CodePairing({createInbox, page: 'call', link: () => link, base: location.href});
 *     pairing.addEventListener('change', () => … codeView(pairing) …);
 *     pairing.addEventListener('joined', event => location.assign(event.detail));
 *     pairing.setVisible(true);
 */

import {CodeJoiner} from './code-joiner.js';
import {CodeOwner} from './code-owner.js';
import {parseCode} from './code.js';
import {Room, parseURL} from './room.js';

/** Milliseconds after a joiner was let in before the next code. Usually the call connects before. */
const NEXT_CODE_DELAY = 15_000;
const ROOM_PAGE = /(?:^|\/)(call|send|receive)\.html$/;

/**
 * @typedef {import('./pairing.js').CreateInbox} CreateInbox
 * @typedef {'call'|'send'|'receive'} RoomPage a page that opens a room
 * @typedef {{createInbox: CreateInbox, page: RoomPage | 'home', base: string, link?: () => string}} Options
 *   page is this page, `home` accepts the link of every page. base is its address.
 *   link returns the link of the room for another device; without it, no code is shown
 */

/**
 * CodePairing has an owner and a joiner. An event `change` reports that a property
 * has changed, `joined` the link of the other device's room on this server.
 */
export class CodePairing extends EventTarget {
  /** The device that shows a code, null if this one shows none. @type {CodeOwner | null} */
  owner = null;
  /** The device that enters a code, while it does. @type {CodeJoiner | null} */
  joiner = null;
  /** Why the last entered code failed: a state or reason of {@link CodeJoiner}, or `malformed`, `own-code`, `limited`. */
  error = '';
  /** Whether the user of this device has confirmed the digits. */
  confirmed = false;
  /** Whether the user has let a joiner in, which does not have the link yet. */
  lettingIn = false;
  /** The room that was joined, if it belongs to another page than this one. @type {{page: RoomPage, url: string} | null} */
  otherPage = null;
  /** Whether the page leaves for another room. */
  joined = false;
  #active = true;
  #visible = false;
  #enteredCode = '';
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #nextCode;
  #options;

  /** @param {Options} options */
  constructor(options) {
    super();
    this.#options = options;
    if (!options.link) return;
    this.owner = new CodeOwner(options.createInbox, {mayRenew: () => this.#active && this.#visible});
    this.owner.addEventListener('state', () => this.#onOwnerState());
    this.owner.addEventListener('retry', () => this.#changed());
  }

  /**
   * Sets whether the user can see the code. No code is claimed before; a code that
   * is valid remains so, because the user can have written it down.
   * @param {boolean} visible
   */
  setVisible(visible) {
    this.#visible = visible;
    this.#resume();
  }

  /**
   * Sets whether codes are used at all, which a connected call does not need.
   * @param {boolean} active
   */
  setActive(active) {
    if (active === this.#active) return;
    this.#active = active;
    if (active) return this.#resume();
    clearTimeout(this.#nextCode);
    this.#endJoiner();
    this.owner?.pause();
    this.#changed();
  }

  /** Shows a new code, after a press of the user. */
  renew() {
    clearTimeout(this.#nextCode);
    this.owner?.renew();
  }

  /** Lets the joiner in, whose digits the user has compared. */
  async letIn() {
    if (this.owner?.state !== 'asked' || this.lettingIn) return;
    this.lettingIn = true;
    this.#changed();
    await this.owner.letIn(this.#options.link?.() ?? '');
    this.lettingIn = false;
    this.#changed();
  }

  refuse() {
    this.owner?.refuse();
  }

  /**
   * Joins the room of the device that shows a code.
   * @param {string} text what the user has entered
   */
  enter(text) {
    const code = parseCode(text);
    if (!code || code === this.owner?.code) return this.#fail(code ? 'own-code' : 'malformed');
    this.#endJoiner();
    if (this.owner?.state === 'exchanging') this.owner.pause();
    this.error = '';
    this.#enteredCode = code;
    const joiner = new CodeJoiner(this.#options.createInbox, code);
    this.joiner = joiner;
    joiner.addEventListener('state', () => joiner === this.joiner && this.#onJoinerState(joiner));
    joiner.addEventListener('retry', () => this.#changed());
    joiner.start();
    this.#changed();
  }

  /** Forgets why the last code failed, when the user enters another one. */
  clearError() {
    if (this.error) this.#fail('');
  }

  /** Confirms that the other device shows the same digits. */
  confirm() {
    if (this.joiner?.state !== 'asked') return;
    this.confirmed = true;
    this.joiner.confirm();
    this.#changed();
  }

  /**
   * Stops to join.
   * @param {string} [error] why, if it is not the user's wish
   */
  cancel(error = '') {
    this.#endJoiner();
    this.#fail(error);
  }

  /** Opens the room that was joined, although it belongs to another page. */
  openOtherPage() {
    if (this.otherPage) this.#open(this.otherPage.url);
  }

  /** Ends everything. A page calls it when it closes. */
  close() {
    clearTimeout(this.#nextCode);
    this.#endJoiner();
    this.owner?.close();
  }

  #changed() {
    this.dispatchEvent(new Event('change'));
  }

  #resume() {
    if (this.#active && this.#visible && !this.joiner && !this.joined && this.owner?.state === 'paused') this.owner.renew();
  }

  #onOwnerState() {
    const {owner, joiner} = this;
    if (owner?.state === 'exchanging') this.error = '';
    if (owner?.state === 'exchanging' && joiner) return this.#resolveCollision(owner);
    if (owner?.state === 'let-in') this.#nextCode = setTimeout(() => this.#afterLetIn(), NEXT_CODE_DELAY);
    this.#changed();
  }

  /**
   * Both devices have entered the code of the other. Both keep the exchange of the
   * lower code.
   * @param {CodeOwner} owner
   */
  #resolveCollision(owner) {
    if (owner.code < this.#enteredCode) this.#endJoiner();
    else owner.pause();
    this.#changed();
  }

  #afterLetIn() {
    if (this.owner?.state !== 'let-in') return;
    this.owner.pause();
    this.#resume();
  }

  /** @param {CodeJoiner} joiner */
  #onJoinerState(joiner) {
    if (joiner.state === 'let-in') this.#onLink(joiner.link);
    else if (joiner.state !== 'asked') this.cancel(failureOf(joiner));
    this.#changed();
  }

  /** @param {string} link */
  #onLink(link) {
    const room = resolveLink(link, this.#options.base);
    this.#endJoiner();
    if (!room) return this.#fail('invalid-link');
    if (this.#options.page === 'home' || room.page === this.#options.page) return this.#open(room.url);
    this.otherPage = room;
  }

  /** @param {string} url */
  #open(url) {
    this.joined = true;
    this.otherPage = null;
    this.owner?.pause();
    this.#changed();
    this.dispatchEvent(new CustomEvent('joined', {detail: url}));
  }

  #endJoiner() {
    const {joiner} = this;
    this.joiner = this.otherPage = null;
    this.confirmed = false;
    joiner?.close();
  }

  /** @param {string} error */
  #fail(error) {
    this.error = error;
    this.#resume();
    this.#changed();
  }
}

/** @param {CodeJoiner} joiner */
function failureOf({state, reason, retry}) {
  if (state !== 'failed') return state;
  return reason === 'no-answer' && retry?.error.status === 429 ? 'limited' : reason;
}

/**
 * Returns the page of a link from another device, and its address on this server.
 * The other device can reach this server under another name, and its link must not
 * lead to another server. Returns null if the link has no room.
 * @param {string} link
 * @param {string} base the address of this page
 * @returns {{page: RoomPage, url: string} | null}
 */
export function resolveLink(link, base) {
  const {pathname = '', hash = ''} = parseURL(link) ?? {};
  const [, page] = ROOM_PAGE.exec(pathname) ?? [];
  const room = hash && Room.from(hash);
  if (!page || !room) return null;
  const url = new URL(`${page}.html`, base);
  url.hash = room.fragment;
  return {page: /** @type {RoomPage} */ (page), url: url.href};
}
