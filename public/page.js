/**
 * What the camera's page and the screen's page do alike, before anything else.
 */

import {iceServers} from './ice.js';
import {Inbox} from './inbox.js';
import {Room} from './room.js';
import {fillShareBox} from './share.js';
import {StatusView, Troubles, troubles} from './status.js';

/**
 * @typedef {import('./room.js').Role} Role
 * @typedef {{inbox: Inbox, to: string, iceServers: () => Promise<RTCIceServer[]>}} Ground
 */

/**
 * @template {Element} T
 * @param {string} selector
 * @param {new () => T} kind
 * @returns {T}
 */
export function find(selector, kind) {
  const element = document.querySelector(selector);
  if (element instanceof kind) return element;
  throw new Error(`this page lacks ${selector}`);
}

export const view = new StatusView(find('.status', HTMLElement));

/**
 * Enters the room of the link, or a new one. Null when this page cannot work,
 * which the person has then been told.
 * @param {Role} role
 * @returns {Promise<Ground | null>}
 */
export async function enter(role) {
  const other = role === 'send' ? 'receive' : 'send';
  const room = Room.from(location.hash);
  // Another link pasted into this tab is another visit.
  addEventListener('hashchange', () => location.reload());
  addEventListener('pageshow', event => event.persisted && location.reload());
  if (!room) return refuse(troubles['bad-link']);
  history.replaceState(null, '', room.fragment);
  if (!isSecureContext) return refuse(troubles.insecure);
  if (!('RTCPeerConnection' in window)) return refuse(troubles.unsupported);
  fillShareBox(find('.share', HTMLElement), room.link(other, location.href));
  const inbox = new Inbox(new URL('inbox', document.baseURI), await room.credentials(role));
  return {inbox, to: room.name(other), iceServers: () => iceServers(new URL('ice', document.baseURI), inbox.authorization)};
}

/** @param {import('./status.js').Notice} notice */
function refuse(notice) {
  document.body.dataset.state = 'refused';
  view.show(notice);
  return null;
}

/**
 * Keeps the notice right: the inbox's trouble comes first, but says nothing of
 * a picture that is there.
 * @param {Ground} ground
 * @param {import('./ends.js').SendingEnd | import('./ends.js').ReceivingEnd} end
 * @param {() => import('./status.js').Notice} notice what there is to say without trouble
 * @returns {() => void} to be called when the notice may have changed
 */
export function report({inbox}, end, notice) {
  const refresh = () => {
    const superseded = inbox.status === 'superseded';
    document.body.dataset.state = superseded ? 'superseded' : end.state;
    if (current.notice && (superseded || end.state !== 'connected')) view.show(current.notice, current.until);
    else view.show(notice());
  };
  const current = new Troubles(inbox, refresh);
  end.addEventListener('state', refresh);
  addEventListener('pagehide', () => end.leave());
  return refresh;
}

/** Keeps the display awake while a picture is shown, where that can be asked for. */
export class WakeLock {
  /** @type {WakeLockSentinel | null} */
  #lock = null;

  /** @param {boolean} wanted */
  async set(wanted) {
    if (wanted === Boolean(this.#lock) || !navigator.wakeLock) return;
    if (!wanted) {
      void this.#lock?.release();
      this.#lock = null;
      return;
    }
    this.#lock = await navigator.wakeLock.request('screen').catch(() => null); // low battery, or hidden
    this.#lock?.addEventListener('release', () => (this.#lock = null));
  }
}
