/**
 * Guest passes for a private server. A device with an invitation puts one into each link that it
 * shares, and gives the other device of a call a new one.
 */

import {isInvitation} from './access.js';
import {Room, otherRole} from './room.js';
import {rememberedRooms} from './remember.js';

/** Milliseconds between guest passes of a page that stays open: a pass is valid for a day. */
const RENEWAL = 6 * 3_600_000;
/** Milliseconds before a request that failed temporarily is repeated. */
const RETRY = 5_000;

/**
 * @typedef {import('./page.js').Context} Context
 * @typedef {import('./page.js').Endpoint} Endpoint
 */

/** Whether this page uses the guest pass of a link: it cannot show short codes. @param {Context} context */
export function isGuest({inbox}) {
  return inbox.invite !== '' && !isInvitation(inbox.invite);
}

/**
 * Returns the room as a link for another device opens it. On a device with an invitation, it has
 * a guest pass, which is renewed from time to time, and in each call.
 * @param {Context} context
 * @param {Endpoint} endpoint
 * @param {(room: Room) => void} onRenewal
 * @returns {Promise<Room>}
 */
export async function sharedRoom(context, endpoint, onRenewal) {
  const {room, inbox} = context;
  if (!isInvitation(inbox.invite)) return room;
  let shared = room;
  const renew = async () => {
    const pass = await mint(context);
    if (!pass) return shared;
    endpoint.givePass(pass);
    return shared = new Room(room.id, room.secret, pass);
  };
  const update = async () => onRenewal(await renew());
  endpoint.addEventListener('state', () => endpoint.state === 'connected' && void update());
  addEventListener('remembered', () => void update());
  setInterval(update, RENEWAL);
  return renew();
}

/**
 * Keeps the guest passes that the other device sends during a call, with the room if it is
 * remembered.
 * @param {Context} context
 * @param {Endpoint} endpoint
 */
export function keepPasses(context, endpoint) {
  const {room, inbox} = context;
  endpoint.addEventListener('pass', event => {
    const {pass} = new Room(room.id, room.secret, /** @type {CustomEvent} */ (event).detail);
    if (!pass) return;
    room.pass = pass;
    rememberedRooms.update(room.id, {pass});
    if (isInvitation(inbox.invite)) return;
    inbox.invite = pass;
    history.replaceState(null, '', room.fragment);
  });
}

/**
 * Returns a new guest pass for the room: for 30 days if this device remembers it, else for a day.
 * Returns '' if the server makes none.
 * @param {Context} context
 */
async function mint({room, role, inbox}) {
  const body = JSON.stringify({names: [room.name(role), room.name(otherRole(role))], remembered: Boolean(rememberedRooms.find(room.id))});
  const headers = {'Content-Type': 'application/json', 'Inbox-Invite': inbox.invite};
  // error keeps the invitation from the target of a redirect, which is never an inbox server.
  const options = /** @type {const} */ ({method: 'POST', headers, body, cache: 'no-store', credentials: 'omit', redirect: 'error'});
  while (inbox.status !== 'closed' && inbox.status !== 'refused') {
    const response = await fetch(new URL('guest-pass', document.baseURI), options).catch(() => null);
    const pass = response?.ok && (await response.json().catch(() => null))?.pass;
    if (typeof pass === 'string') return pass;
    if (response && response.status < 500 && response.status !== 429) return '';
    await new Promise(resolve => setTimeout(resolve, RETRY));
  }
  return '';
}
