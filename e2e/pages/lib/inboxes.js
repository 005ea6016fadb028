/** Helpers for the tests of inbox.js: creating inboxes and advancing time. */

import {once} from 'node:events';
import {afterEach} from 'node:test';
import {StreamInbox as Inbox} from '../../../public/stream-inbox.js';

/** @type {(() => void)[]} */
let cleanups = [];

/** @param {() => void} cleanup called after the test */
export const onCleanup = cleanup => cleanups.push(cleanup);

afterEach(() => {
  for (const cleanup of cleanups) cleanup();
  cleanups = [];
});

/**
 * Opens an inbox that polls only, by default.
 * @param {string} url
 * @param {Partial<import('../../../public/inbox.js').Options & import('../../../public/stream-inbox.js').StreamOptions>} [options]
 */
export function openInbox(url, options = {}) {
  const inbox = new Inbox(url, {name: 'me', password: 'secret', transports: [], ...options});
  cleanups.push(() => inbox.close());
  return inbox;
}

/** Starts an inbox and waits until its name is claimed. @param {Inbox} inbox */
export async function startInbox(inbox) {
  inbox.start();
  while (inbox.status !== 'open') await once(inbox, 'status');
}

/** Runs all pending promise callbacks. */
export const flushPromises = () => new Promise(resolve => setImmediate(resolve));

/** Waits for an event and returns its detail. @param {Inbox} inbox @param {string} name @returns {Promise<any>} */
export async function nextDetail(inbox, name) {
  const [event] = await once(inbox, name);
  return event.detail;
}

/** Advances the mock clock in steps of 100 ms. @param {import('node:test').TestContext} t @param {number} seconds */
export async function advance(t, seconds) {
  for (let tenth = 0; tenth < seconds * 10; tenth++) {
    t.mock.timers.tick(100);
    await new Promise(resolve => setImmediate(resolve));
  }
}

/**
 * Installs a fake source of online and offline events.
 * @param {import('node:test').TestContext} t
 */
export function mockNetworkEvents(t) {
  const page = new EventTarget();
  for (const name of /** @type {const} */ (['addEventListener', 'removeEventListener'])) {
    Object.defineProperty(globalThis, name, {value: page[name].bind(page), configurable: true});
    t.after(() => Reflect.deleteProperty(globalThis, name));
  }
  return page;
}

/**
 * Installs a fake document.
 * @param {import('node:test').TestContext} t
 */
export function mockDocument(t) {
  const page = Object.assign(new EventTarget(), {visibilityState: 'visible'});
  Object.defineProperty(globalThis, 'document', {value: page, configurable: true});
  t.after(() => Reflect.deleteProperty(globalThis, 'document'));
  return page;
}
