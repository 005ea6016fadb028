/**
 * What the camera's page and the screen's page do alike, before anything else.
 */

import {iceServers} from './ice.js';
import {Inbox} from './inbox.js';
import {Room} from './room.js';
import {fillShareBox} from './share.js';
import {ConnectionStatus, StatusView, noticeFor, notices} from './status.js';

/**
 * @typedef {import('./room.js').Role} Role
 * @typedef {{inbox: Inbox, to: string, iceServers: () => Promise<RTCIceServer[]>}} Context
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

export const statusView = new StatusView(find('.status', HTMLElement));

/**
 * Enters the room of the link, or a new one. Null when this page cannot work,
 * which the person has then been told.
 * @param {Role} role
 * @returns {Promise<Context | null>}
 */
export async function joinRoom(role) {
  const remoteRole = role === 'send' ? 'receive' : 'send';
  const room = Room.from(location.hash);
  // Another link pasted into this tab is another visit.
  addEventListener('hashchange', () => location.reload());
  addEventListener('pageshow', event => event.persisted && location.reload());
  if (!room) return showFatal(notices['bad-link']);
  history.replaceState(null, '', room.fragment);
  if (!isSecureContext) return showFatal(notices.insecure);
  if (!('RTCPeerConnection' in window)) return showFatal(notices.unsupported);
  fillShareBox(find('.share', HTMLElement), room.link(remoteRole, location.href));
  const inbox = new Inbox(new URL('inbox', document.baseURI), await room.credentials(role));
  return {inbox, to: room.name(remoteRole), iceServers: () => iceServers(new URL('ice', document.baseURI), inbox.authorization)};
}

/** @param {import('./status.js').Notice} notice */
function showFatal(notice) {
  document.body.dataset.state = 'failed';
  statusView.show(notice);
  return null;
}

/**
 * Keeps the notice right: the inbox's trouble comes first, but says nothing of
 * a picture that is there.
 * @param {Context} context
 * @param {import('./session.js').SendingEndpoint | import('./session.js').ReceivingEndpoint} endpoint
 * @param {() => import('./status.js').Notice} callNotice what there is to say without trouble
 * @returns {() => void} to be called when the notice may have changed
 */
export function bindStatus({inbox}, endpoint, callNotice) {
  const refresh = () => {
    const superseded = inbox.status === 'superseded';
    document.body.dataset.state = superseded ? 'superseded' : endpoint.state;
    const errorNotice = connection.notice ?? (endpoint.error && noticeFor(endpoint.error));
    if (errorNotice && (superseded || endpoint.state !== 'connected')) statusView.show(errorNotice, connection.until);
    else statusView.show(callNotice());
  };
  const connection = new ConnectionStatus(inbox, refresh);
  endpoint.addEventListener('state', refresh);
  endpoint.addEventListener('error', refresh);
  addEventListener('pagehide', () => endpoint.leave());
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
    const lock = await navigator.wakeLock?.request('screen').catch(() => null); // low battery, or hidden by now
    this.#lock = lock ?? null;
    lock?.addEventListener('release', () => {
      if (this.#lock === lock) this.#lock = null;
    });
  }
}
