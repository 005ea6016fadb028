/** Inboxes under test, and ways to let them get on. */

import {once} from 'node:events';
import {afterEach} from 'node:test';
import {Inbox} from '../../../public/inbox.js';

/** @type {(() => void)[]} */
let cleanups = [];

/** @param {() => void} cleanup what is done after the test */
export const onCleanup = cleanup => cleanups.push(cleanup);

afterEach(() => {
  for (const cleanup of cleanups) cleanup();
  cleanups = [];
});

/**
 * @param {string} url
 * @param {Partial<{name: string, password: string, fetch: typeof fetch}>} [options]
 */
export function openInbox(url, options = {}) {
  const inbox = new Inbox(url, {name: 'me', password: 'secret', ...options});
  cleanups.push(() => inbox.close());
  return inbox;
}

/** Lets everything that waits on nothing but promises happen. */
export const flushPromises = () => new Promise(resolve => setImmediate(resolve));

/** @param {Inbox} inbox @param {string} name @returns {Promise<any>} */
export async function nextDetail(inbox, name) {
  const [event] = await once(inbox, name);
  return event.detail;
}

/** @param {import('node:test').TestContext} t @param {number} seconds */
export async function advance(t, seconds) {
  for (let tenth = 0; tenth < seconds * 10; tenth++) {
    t.mock.timers.tick(100);
    await new Promise(resolve => setImmediate(resolve));
  }
}
