/** The start page: it joins the room of another device by code, and lists the remembered rooms. */

import {CodeBox} from './code-box.js';
import {Inbox} from './inbox.js';
import {RoomList} from './room-list.js';

/** @param {string} selector */
const find = selector => /** @type {HTMLElement} */ (document.querySelector(selector));

new CodeBox(find('.code-box'), {
  createInbox: credentials => new Inbox(new URL('inbox', document.baseURI), credentials),
  page: 'home',
});
new RoomList(find('.rooms'));

for (const element of document.querySelectorAll('.origin')) {
  element.textContent = new URL('.', location.href).href.replace(/\/$/, '');
}

// A page that comes back from the history has closed its mailboxes.
addEventListener('pageshow', event => event.persisted && location.reload());
