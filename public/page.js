/**
 * The code that the pages of a room share: joining the room, the status notice and
 * the wake lock.
 */

import {tokenFor} from './access.js';
import {defaultActions, fatalActions, testAction} from './actions.js';
import {find} from './dom.js';
import {turnOff} from './ice-urls.js';
import {IceServers} from './ice.js';
import {Presence, deviceName} from './presence.js';
import {Room, otherRole} from './room.js';
import {Sealer, signalSealer} from './seal.js';
import {ConnectionStatus, StatusView, noticeFor, notices, showActions} from './status.js';
import {StreamInbox} from './stream-inbox.js';
import * as strings from './strings.js';

/**
 * The parts that a page is usable without. They are not in its bundle, so that it arrives
 * sooner. If they do not arrive, reload-on-error.js reloads the page.
 */
export const later = import('./later.js').catch(() => {
  dispatchEvent(new Event('moduleerror'));
  return /** @type {Promise<never>} */ (new Promise(() => {}));
});

/**
 * @typedef {import('./stream-inbox.js').StreamInbox} Inbox
 * @typedef {import('./room.js').Role} Role
 * @typedef {import('./room.js').Slot} Slot
 * @typedef {import('./room.js').PageName} PageName
 * @typedef {import('./status.js').Notice} Notice
 * @typedef {import('./session.js').SendingEndpoint | import('./session.js').ReceivingEndpoint} Endpoint
 * @typedef {object} Context the options of an endpoint, and what else belongs to the room of a page
 * @property {Room} room
 * @property {boolean} made whether this page made the room
 * @property {Role} role
 * @property {Inbox} inbox
 * @property {string} to the mailbox of the other side
 * @property {string} device the name of this device
 * @property {IceServers} ice
 * @property {(options: import('./session.js').PeerOptions) => Promise<import('./observed-peer.js').ObservedPeer>} createPeer
 * @property {() => Promise<RTCIceServer[]>} fetchIceServers
 *
 * @typedef {Context & {slot: Slot, leaveSlot?: () => void}} CallContext leaveSlot looks for another slot
 */

export {find};

export const statusView = new StatusView(find('.status', HTMLElement));

/**
 * Returns the room of the link, or a new room, and whether it is new. Returns null if
 * the page cannot work; the notice then says why.
 */
export function openRoom() {
  const made = location.hash.length < 2;
  const room = Room.from(location.hash);
  // A link to another room changes only the fragment, so the browser does not load the page again.
  addEventListener('hashchange', () => location.reload());
  addEventListener('pageshow', event => event.persisted && location.reload());
  if (!room) return showFatal(notices.badLink);
  history.replaceState(null, '', room.fragment);
  if (!isSecureContext) return showFatal(notices.insecure);
  if (!('RTCPeerConnection' in window)) return showFatal(notices.unsupported);
  return {room, made};
}

/**
 * Joins the room of the link, or a new room, as its camera or its screen. Returns null
 * if the page cannot work.
 * @param {'send'|'receive'} role
 * @returns {Promise<Context | null>}
 */
export async function joinRoom(role) {
  const opened = openRoom();
  return opened && createContext(opened, role, await createInbox(opened.room, role));
}

/**
 * @param {Room} room
 * @param {Role} role
 */
export async function createInbox(room, role) {
  const sealer = signalSealer(await Sealer.create(room.secret, room.id), {local: role, remote: otherRole(role)});
  return new StreamInbox(new URL('inbox', document.baseURI), {...await room.credentials(role), sealer, invite: tokenFor(room)});
}

/**
 * @param {{room: Room, made: boolean}} opened
 * @param {Role} role
 * @param {Inbox} inbox
 * @returns {Context}
 */
export function createContext({room, made}, role, inbox) {
  const ice = new IceServers(inbox);
  const device = deviceName(navigator.userAgent);
  const fetchIceServers = () => ice.fetch();
  const createPeer = async (/** @type {import('./session.js').PeerOptions} */ options) => new (await later).ObservedPeer(options);
  return {room, made, role, inbox, to: room.name(otherRole(role)), device, ice, createPeer, fetchIceServers};
}

/**
 * Shows why the page cannot work, and hides its controls.
 * @param {Notice} notice
 */
function showFatal(notice) {
  document.body.dataset.state = 'failed';
  statusView.show(notice);
  showActions(statusActions(), fatalActions, () => {});
  return null;
}

/**
 * Keeps the status notice up to date. Errors take precedence over the state of the
 * call, except while a call is connected: its media does not use the mailboxes.
 * @param {Context | CallContext} context
 * @param {Endpoint} endpoint
 * @param {() => Notice} callNotice returns the notice to show without errors
 * @returns {() => void} updates the notice
 */
export function bindStatus(context, endpoint, callNotice) {
  const {inbox, ice, room} = context;
  let unreadable = false;
  const isActive = () => inbox.status === 'open' || inbox.status === 'retrying';
  const findError = () => {
    if (inbox.status !== 'superseded' && endpoint.state === 'connected') return null;
    if (connection.notice) return connection.notice;
    if (endpoint.error) return noticeFor(endpoint.error);
    return unreadable ? notices.unreadable : null;
  };
  const refresh = () => {
    const superseded = inbox.status === 'superseded';
    document.body.dataset.state = superseded ? 'superseded' : isRefused(endpoint) && !endpoint.live ? 'failed' : endpoint.state;
    if (superseded && !connection.notice) return; // until the place of the other page is known
    if (connection.place) nameTakeOver(connection.place);
    const error = findError();
    const reason = error || endpoint.state === 'connected' ? null : watch?.reason ?? null;
    const notice = error ?? reasonNotice(reason) ?? withRefusal(withServerHint(callNotice(), endpoint, ice), connection.refusal);
    statusView.show(notice, error ? connection.until : 0);
    const actions = connection.refusal ? fatalActions : error ? defaultActions : testAction; // a reload would end a call without a camera
    showActions(statusActions(), reason?.actions ?? (notice.tone === 'bad' ? actions : []), () => watch?.retry());
  };
  /** @type {import('./call-watch.js').CallWatch | undefined} */
  let watch;
  void later.then(({CallWatch}) => {
    watch = new CallWatch({endpoint, ice});
    watch.addEventListener('reason', refresh);
  });
  const presence = new Presence(room.name(context.role), isActive);
  const findRefusal = async (/** @type {import('./inbox.js').InboxError} */ error) =>
    (await later).refusalOf(error, {room, made: context.made, invite: inbox.invite, inCall: !isRefused(endpoint)});
  const connection = new ConnectionStatus(inbox, refresh, () => presence.find(), findRefusal);
  for (const event of ['state', 'error', 'remote']) endpoint.addEventListener(event, refresh);
  inbox.addEventListener('error', event => {
    if (/** @type {CustomEvent} */ (event).detail.cause?.name !== 'SealError') return;
    unreadable = true;
    refresh();
  });
  endpoint.addEventListener('track', () => (unreadable = false));
  bindSlot(context, endpoint, presence);
  addEventListener('pagehide', () => endpoint.leave());
  return refresh;
}

/**
 * Whether a private server refuses this page, and there is no call that continues without it.
 * @param {Endpoint} endpoint
 */
export function isRefused({inbox, state}) {
  return inbox.status === 'refused' && state !== 'connected' && state !== 'reconnecting';
}

/**
 * Says in a call that the server refuses the page for the next one.
 * @param {Notice} notice
 * @param {import('./refusal.js').Refusal | null} refusal
 * @returns {Notice}
 */
function withRefusal(notice, refusal) {
  return refusal ? {...notice, tone: 'busy', hint: refusal.inCall} : notice;
}

/**
 * Invites the other device, as soon as the parts for it have arrived.
 * @param {Context} context
 * @param {Endpoint} endpoint
 * @param {{page: PageName, other: PageName}} pages this one and the one that the link opens
 */
export async function bindInvitation(context, endpoint, pages) {
  const parts = await later;
  await parts.bindInvitation(context, endpoint, pages);
}

/**
 * @param {import('./reason.js').Reason | null} reason
 * @returns {Notice | null}
 */
function reasonNotice(reason) {
  return reason && {tone: 'bad', title: reason.title, hint: reason.hint};
}

/**
 * Looks for another slot if another device takes that of this page, before the page has
 * been connected to anything. A tab of this browser, such as a duplicate of this one, is
 * the same device: the two must not take both slots.
 * @param {Context | CallContext} context
 * @param {Endpoint} endpoint
 * @param {Presence} presence
 */
function bindSlot(context, endpoint, presence) {
  let connected = false;
  endpoint.addEventListener('state', () => (connected ||= endpoint.state === 'connected'));
  context.inbox.addEventListener('superseded', async () => {
    if (connected || !('leaveSlot' in context)) return;
    if (await presence.find() !== 'tab' && context.inbox.status === 'superseded') context.leaveSlot?.();
  });
}

/** @param {import('./presence.js').Place} place where the page is that has the mailbox */
function nameTakeOver(place) {
  find('#take-over', HTMLButtonElement).textContent = place === 'tab' ? strings.status.useThisTab : strings.status.useThisDevice;
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
 * @param {Notice} notice
 * @param {Endpoint} endpoint
 * @param {IceServers} ice
 * @returns {Notice}
 */
function withServerHint(notice, {peer, state}, ice) {
  if (state !== 'connecting' && state !== 'reconnecting') return notice;
  if (peer?.rejectedServers.length) return {...notice, hint: strings.status.rejectedServers};
  if (turnOff(ice) === 'month-used') return {...notice, hint: strings.status.relayUsedUp};
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
