/**
 * The code that the camera page and the screen page share: joining a room, the
 * status notice and the wake lock.
 */

import {CodeBox} from './code-box.js';
import {IceServers} from './ice.js';
import {Inbox} from './inbox.js';
import {Room} from './room.js';
import {ShareBox} from './share.js';
import {ConnectionStatus, StatusView, noticeFor, notices} from './status.js';

/**
 * @typedef {import('./room.js').Role} Role
 * @typedef {{inbox: Inbox, to: string, ice: IceServers, fetchIceServers: () => Promise<RTCIceServer[]>, codes: CodeBox}} Context
 */

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

export const statusView = new StatusView(find('.status', HTMLElement));

/**
 * Joins the room of the link, or a new room. Returns null if the page cannot
 * work; the notice then says why.
 * @param {Role} role
 * @returns {Promise<Context | null>}
 */
export async function joinRoom(role) {
  const remoteRole = role === 'send' ? 'receive' : 'send';
  const room = Room.from(location.hash);
  // A link to another room changes only the fragment, so the browser does not load the page again.
  addEventListener('hashchange', () => location.reload());
  addEventListener('pageshow', event => event.persisted && location.reload());
  if (!room) return showFatal(notices['bad-link']);
  history.replaceState(null, '', room.fragment);
  if (!isSecureContext) return showFatal(notices.insecure);
  if (!('RTCPeerConnection' in window)) return showFatal(notices.unsupported);
  const share = new ShareBox(find('.share', HTMLElement), room.link(remoteRole, location.href));
  const codes = new CodeBox(find('.code-box', HTMLElement), {createInbox: openMailbox, page: role, link: () => share.link});
  const inbox = new Inbox(new URL('inbox', document.baseURI), await room.credentials(role));
  const ice = new IceServers(new URL('ice', document.baseURI), inbox.authorization);
  return {inbox, to: room.name(remoteRole), ice, fetchIceServers: () => ice.fetch(), codes};
}

/** @param {import('./room.js').Credentials} credentials */
function openMailbox(credentials) {
  return new Inbox(new URL('inbox', document.baseURI), credentials);
}

/**
 * Shows why the page cannot work, and hides its controls.
 * @param {import('./status.js').Notice} notice
 */
function showFatal(notice) {
  document.body.dataset.state = 'failed';
  statusView.show(notice);
  return null;
}

/**
 * Keeps the status notice up to date. Errors take precedence over the state of the
 * call, except while a call is connected: its media does not use the mailboxes.
 * @param {Context} context
 * @param {import('./session.js').SendingEndpoint | import('./session.js').ReceivingEndpoint} endpoint
 * @param {() => import('./status.js').Notice} callNotice returns the notice to show without errors
 * @returns {() => void} updates the notice
 */
export function bindStatus({inbox, ice, codes}, endpoint, callNotice) {
  const refresh = () => {
    const superseded = inbox.status === 'superseded';
    document.body.dataset.state = superseded ? 'superseded' : endpoint.state;
    codes.setActive(!superseded && endpoint.state !== 'connected');
    const errorNotice = connection.notice ?? (endpoint.error && noticeFor(endpoint.error));
    if (errorNotice && (superseded || endpoint.state !== 'connected')) statusView.show(errorNotice, connection.until);
    else statusView.show(withServerHint(callNotice(), endpoint, ice));
  };
  const connection = new ConnectionStatus(inbox, refresh);
  endpoint.addEventListener('state', refresh);
  endpoint.addEventListener('error', refresh);
  addEventListener('pagehide', () => endpoint.leave());
  return refresh;
}

/**
 * Replaces the hint of a notice while a call connects with fewer ICE servers than usual.
 * @param {import('./status.js').Notice} notice
 * @param {import('./session.js').SendingEndpoint | import('./session.js').ReceivingEndpoint} endpoint
 * @param {IceServers} ice
 * @returns {import('./status.js').Notice}
 */
function withServerHint(notice, {peer, state}, ice) {
  if (state !== 'connecting' && state !== 'reconnecting') return notice;
  if (peer?.rejectedServers.length) return {...notice, hint: 'The server lists STUN or TURN servers that this browser rejects. The call is made without them.'};
  if (ice.turn === 'month-used') return {...notice, hint: 'The server has used up its relay traffic of this month. The call connects only over a direct path, such as the same Wi-Fi.'};
  return notice;
}

/**
 * WakeLock keeps the display on during a call, where the browser supports it.
 * Browsers release the lock when the page is hidden, so it is requested again
 * when the page is visible.
 */
export class WakeLock {
  /** @type {WakeLockSentinel | null} */
  #lock = null;
  #wanted = false;
  /** Serializes the updates, so that a lock still being requested is released later. */
  #queue = Promise.resolve();

  constructor() {
    document.addEventListener('visibilitychange', () => this.set(this.#wanted));
  }

  /** @param {boolean} wanted */
  set(wanted) {
    this.#wanted = wanted;
    this.#queue = this.#queue.then(() => this.#update());
    return this.#queue;
  }

  async #update() {
    if (this.#wanted && !this.#lock && document.visibilityState === 'visible') await this.#acquire();
    if (this.#wanted) return;
    void this.#lock?.release();
    this.#lock = null;
  }

  async #acquire() {
    const lock = await navigator.wakeLock?.request('screen').catch(() => null); // for example on low battery
    this.#lock = lock ?? null;
    lock?.addEventListener('release', () => {
      if (this.#lock === lock) this.#lock = null;
    });
  }
}
