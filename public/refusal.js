/** Says why a private server refuses a page, and looks for another token first. */

import {isInvitation, noteRefused, wasRefused} from './access.js';
import {rememberedRooms} from './remember.js';
import * as strings from './strings.js';

const texts = strings.access;

/**
 * @typedef {import('./inbox.js').InboxError} InboxError
 * @typedef {import('./room.js').Room} Room
 * @typedef {{title: string, hint: string, inCall: string}} Refusal inCall is the hint of a call that continues
 */

/**
 * Returns what to say. The first refusal of a token opens the page again with another one, if this
 * device has one: the guest pass of the link, or that of the remembered room.
 * @param {Pick<InboxError, 'code'>} error
 * @param {{room: Room, made: boolean, invite: string, inCall: boolean}} page invite is what the server has refused
 * @returns {Refusal}
 */
export function refusalOf({code}, {room, made, invite, inCall}) {
  if (!inCall) tryAnother(room, invite);
  const expired = code === 'invitation-expired';
  if (!invite) return {...texts.required, hint: made ? texts.askOperator : texts.askSender, inCall: texts.inCall};
  if (isInvitation(invite)) return {...expired ? texts.invitationExpired : texts.invitationUnknown, inCall: texts.inCall};
  return {...expired ? texts.passExpired : texts.passUnknown, inCall: texts.inCall};
}

/**
 * @param {Room} room
 * @param {string} invite
 */
function tryAnother(room, invite) {
  const others = [room.pass, rememberedRooms.find(room.id)?.pass ?? ''];
  const pass = others.find(other => other && other !== invite && !wasRefused(other));
  if (!pass || !noteRefused(invite)) return;
  room.pass = pass;
  history.replaceState(null, '', room.fragment);
  location.reload();
}
