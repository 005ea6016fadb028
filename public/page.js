/**
 * The code that the camera page and the screen page share: joining a room, the
 * status notice and the wake lock.
 */

import {CallWatch} from './call-watch.js';
import {find} from './find.js';
import {IceServers} from './ice.js';
import {Inbox} from './inbox.js';
import {defaultActions} from './reason.js';
import {showActions} from './reason-view.js';
import {Room} from './room.js';
import {fillShareBox} from './share.js';
import {ConnectionStatus, StatusView, noticeFor, notices} from './status.js';

/**
 * @typedef {import('./room.js').Role} Role
 * @typedef {{inbox: Inbox, to: string, ice: IceServers, fetchIceServers: () => Promise<RTCIceServer[]>}} Context
 */

export {find};

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
  fillShareBox(find('.share', HTMLElement), room.link(remoteRole, location.href));
  const inbox = new Inbox(new URL('inbox', document.baseURI), await room.credentials(role));
  const ice = new IceServers(new URL('ice', document.baseURI), inbox.authorization);
  return {inbox, to: room.name(remoteRole), ice, fetchIceServers: () => ice.fetch()};
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
export function bindStatus({inbox, ice}, endpoint, callNotice) {
  const refresh = () => {
    const superseded = inbox.status === 'superseded';
    document.body.dataset.state = superseded ? 'superseded' : endpoint.state;
    const errorNotice = endpoint.state === 'connected' && !superseded ? null : connection.notice ?? (endpoint.error && noticeFor(endpoint.error));
    const reason = endpoint.state === 'connected' || errorNotice ? null : watch.reason;
    if (errorNotice) statusView.show(errorNotice, connection.until);
    else if (reason) statusView.show({tone: 'bad', title: reason.title, hint: reason.hint});
    else statusView.show(withServerHint(callNotice(), endpoint, ice));
    showActions(statusActions(), reason?.actions ?? (errorNotice?.tone === 'bad' ? defaultActions : []), () => watch.retry());
  };
  const watch = new CallWatch({endpoint, ice});
  watch.addEventListener('reason', refresh);
  const connection = new ConnectionStatus(inbox, refresh);
  endpoint.addEventListener('state', refresh);
  endpoint.addEventListener('error', refresh);
  addEventListener('pagehide', () => endpoint.leave());
  return refresh;
}

/** Returns the element for the actions of the notice, which the first error adds. */
function statusActions() {
  const text = find('.status-text', HTMLElement);
  const actions = text.querySelector('.status-actions') ?? document.createElement('div');
  actions.className = 'status-actions';
  if (!actions.isConnected) text.append(actions);
  return actions;
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
