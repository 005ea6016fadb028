/**
 * The start page: it joins the room of another device by code, keeps the invitation to a private
 * server, and lists the remembered rooms.
 */

import {CodeBox} from './code-box.js';
import {find} from './dom.js';
import {InvitedBox} from './invited-box.js';
import {RoomList} from './room-list.js';
import {StreamInbox} from './stream-inbox.js';

new CodeBox(find('.code-box', HTMLElement), {
  createInbox: credentials => new StreamInbox(new URL('inbox', document.baseURI), credentials),
  page: 'home',
});
new InvitedBox(find('.invited', HTMLElement));
new RoomList(find('.rooms', HTMLElement));

for (const element of document.querySelectorAll('.origin')) {
  element.textContent = new URL('.', location.href).href.replace(/\/$/, '');
}

// A page that comes back from the history has closed its mailboxes.
addEventListener('pageshow', event => event.persisted && location.reload());
