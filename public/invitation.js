/** Invites the other device of a room: the share box, the code box, and the box to remember the room. */

import {CodeBox} from './code-box.js';
import {find} from './dom.js';
import {Inbox} from './inbox.js';
import {RememberBox} from './remember-box.js';
import {ShareBox} from './share.js';

/** Milliseconds that a page with a link waits for the other side before it offers more ways to invite it. */
const INVITATION_DELAY = 3_000;

/** @typedef {import('./room.js').PageName} PageName */

/**
 * Fills the boxes. A page that was opened through a link has its other side already, so it
 * shows them only if it waits for some time. The code follows the QR code, because most
 * users do not need it.
 * @param {import('./page.js').Context} context
 * @param {import('./page.js').Endpoint} endpoint
 * @param {{page: PageName, other: PageName}} pages this one and the one that the link opens
 */
export function bindInvitation({room, inbox, made}, endpoint, {page, other}) {
  /** @type {ShareBox | undefined} */
  let share;
  /** @type {CodeBox | undefined} */
  let codes;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  const openShare = () => (share ??= openShareBox(room.link(other, location.href)));
  const open = () => {
    codes = openCodeBox(page, openShare());
    new RememberBox(find('.remember', HTMLElement), {room, page});
    update();
  };
  const update = () => {
    const waiting = endpoint.state === 'waiting' && inbox.status !== 'superseded';
    codes?.setActive(waiting);
    clearTimeout(timer);
    // A code has a mailbox of its own, which must not take the place of the room's.
    if (waiting && inbox.status === 'open' && !codes) timer = setTimeout(open, made && page === 'call' ? 0 : INVITATION_DELAY);
  };
  if (made) openShare();
  endpoint.addEventListener('state', update);
  inbox.addEventListener('status', update);
  update();
}

/** @param {string} link */
function openShareBox(link) {
  const box = find('.share', HTMLElement);
  box.hidden = false;
  return new ShareBox(box, link);
}

/**
 * @param {PageName} page
 * @param {ShareBox} share
 */
function openCodeBox(page, share) {
  const box = find('.code-box', HTMLElement);
  box.hidden = false;
  /** @param {import('./room.js').Credentials} credentials */
  const createInbox = credentials => new Inbox(new URL('inbox', document.baseURI), credentials);
  return new CodeBox(box, {createInbox, page, link: () => share.link});
}
