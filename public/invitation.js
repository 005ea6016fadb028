/** Invites the other device of a room: the share box, the code box, and the box to remember the room. */

import {CodeBox} from './code-box.js';
import {find} from './dom.js';
import {isGuest, keepPasses, sharedRoom} from './guest-pass.js';
import {RememberBox} from './remember-box.js';
import {ShareBox} from './share.js';
import {StreamInbox} from './stream-inbox.js';

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
export async function bindInvitation(context, endpoint, {page, other}) {
  const {room, inbox, made} = context;
  /** @type {ShareBox | undefined} */
  let share;
  keepPasses(context, endpoint);
  const linkTo = (/** @type {import('./room.js').Room} */ shared) => shared.link(other, location.href);
  let link = linkTo(await sharedRoom(context, endpoint, shared => share?.setLink(link = linkTo(shared))));
  /** @type {CodeBox | undefined} */
  let codes;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  const openShare = () => (share ??= openShareBox(link));
  const open = () => {
    codes = openCodeBox(page, openShare(), context);
    new RememberBox(find('.remember', HTMLElement), {room, page});
    update();
  };
  const update = () => {
    const waiting = endpoint.state === 'waiting' && inbox.status !== 'superseded' && inbox.status !== 'refused';
    codes?.setActive(waiting);
    clearTimeout(timer);
    // A code has a mailbox of its own, which must not take the place of the room's.
    if (waiting && inbox.status === 'open' && !codes) timer = setTimeout(open, made && page === 'call' ? 0 : INVITATION_DELAY);
  };
  if (made && inbox.status !== 'refused') openShare();
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
 * @param {import('./page.js').Context} context
 */
function openCodeBox(page, share, context) {
  const box = find('.code-box', HTMLElement);
  box.hidden = false;
  /** @param {import('./room.js').Credentials} credentials */
  const createInbox = credentials => new StreamInbox(new URL('inbox', document.baseURI), {...credentials, invite: context.inbox.invite});
  return new CodeBox(box, {createInbox, page, ...!isGuest(context) && {link: () => share.link}});
}
