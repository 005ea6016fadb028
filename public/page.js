/**
 * What the camera's page and the screen's page do alike, before anything else.
 */

import {iceServers} from './ice.js';
import {Inbox} from './inbox.js';
import {Room} from './room.js';
import {fillShareBox} from './share.js';
import {StatusView, Troubles, troubleOf, troubles} from './status.js';

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
    const trouble = current.notice ?? (end.fault && troubleOf(end.fault));
    if (trouble && (superseded || end.state !== 'connected')) view.show(trouble, current.until);
    else view.show(notice());
  };
  const current = new Troubles(inbox, refresh);
  end.addEventListener('state', refresh);
  end.addEventListener('fault', refresh);
  addEventListener('pagehide', () => end.leave());
  return refresh;
}

/**
 * Keeps the display awake while a picture is shown, where that can be asked
 * for. A browser takes the lock back from a page that is hidden.
 */
export class WakeLock {
  /** @type {WakeLockSentinel | null} */
  #lock = null;
  #wanted = false;
  /** One thing after the other, so that no lock is forgotten that was still being asked for. */
  #work = Promise.resolve();

  constructor() {
    document.addEventListener('visibilitychange', () => this.set(this.#wanted));
  }

  /** @param {boolean} wanted */
  set(wanted) {
    this.#wanted = wanted;
    this.#work = this.#work.then(() => this.#follow());
    return this.#work;
  }

  async #follow() {
    if (this.#wanted && !this.#lock && document.visibilityState === 'visible') await this.#take();
    if (this.#wanted) return;
    void this.#lock?.release();
    this.#lock = null;
  }

  async #take() {
    const lock = await navigator.wakeLock?.request('screen').catch(() => null); // low battery, or hidden by now
    this.#lock = lock ?? null;
    lock?.addEventListener('release', () => {
      if (this.#lock === lock) this.#lock = null;
    });
  }
}
