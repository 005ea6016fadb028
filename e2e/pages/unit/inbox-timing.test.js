/** Tests the timeouts, delays and request rates of inbox.js with a mock clock. */

import assert from 'node:assert/strict';
import {test} from 'node:test';
import {advance, nextDetail, openInbox} from '../lib/inboxes.js';

test('a POST that waits is aborted before the server would respond with 404', async t => {
  t.mock.timers.enable({apis: ['setTimeout']});
  /** @type {RequestInit[]} */
  const requests = [];
  const inbox = openInbox('http://localhost/inbox', {
    fetch: (_url, options = {}) => new Promise((resolve, reject) => {
      requests.push(options);
      if (requests.length === 2) resolve(new Response());
      options.signal?.addEventListener('abort', () => reject(options.signal?.reason));
    }),
  });
  let errors = 0;
  inbox.addEventListener('error', () => errors++);
  const sent = inbox.send('bob', 'x', {wait: Infinity});
  while (requests.length < 1) await new Promise(resolve => setImmediate(resolve));
  t.mock.timers.tick(23_999);
  assert.equal(requests[0].signal?.aborted, false);
  t.mock.timers.tick(1);
  await sent;
  assert.equal(requests.length, 2);
  assert.equal(errors, 0, 'a missing recipient is not an error');
});

/**
 * Opens an inbox on a fake server that holds each POST for a time, and counts the
 * 404 responses, which a browser would log to its console.
 * @param {import('node:test').TestContext} t
 * @param {number} hold milliseconds
 */
function inboxWithHold(t, hold) {
  t.mock.timers.enable({apis: ['setTimeout', 'Date']});
  const seen = {posts: 0, notFound: 0, exists: false, respond: (/** @type {Response} */ _response) => {}};
  const problem = () => new globalThis.Response('{"type":"urn:inbox:problem:no-inbox","title":"t"}', {status: 404});
  const inbox = openInbox('http://localhost/inbox', {
    fetch: (url, {method, signal} = {}) => new Promise((resolve, reject) => {
      signal?.addEventListener('abort', () => reject(signal.reason));
      if (String(url).endsWith('wait=0')) return resolve(new globalThis.Response(null, {status: 204}));
      if (method === 'GET') return void (seen.respond = /** @type {any} */ (resolve));
      seen.posts++;
      if (seen.exists) return resolve(new globalThis.Response());
      setTimeout(() => {
        if (signal?.aborted) return;
        seen.notFound++;
        resolve(problem());
      }, hold);
    }),
  });
  return {inbox, seen};
}

test('polls to a server without long polling are limited', async t => {
  t.mock.timers.enable({apis: ['setTimeout', 'Date']});
  let polls = 0;
  const inbox = openInbox('http://localhost/inbox', {fetch: async () => (polls++, new globalThis.Response(null, {status: 204}))});
  inbox.start();
  await advance(t, 10);
  assert.ok(polls >= 10 && polls <= 12, `got ${polls} polls in 10 s, want one per second`);
});

test('a server that holds a POST for less than requested responds with one 404, not one per POST', async t => {
  const {inbox, seen} = inboxWithHold(t, 3_000);
  const sent = inbox.send('bob', 'x', {wait: Infinity});
  await advance(t, 60);
  assert.equal(seen.notFound, 1);
  assert.ok(seen.posts >= 28 && seen.posts <= 31, `got ${seen.posts} POSTs in a minute`);
  seen.exists = true;
  await advance(t, 3);
  await sent;
});

test('retries to a server that does not hold a POST back off until the recipient sends a message', async t => {
  const {inbox, seen} = inboxWithHold(t, 0);
  inbox.start();
  const sent = inbox.send('bob', 'x', {wait: Infinity});
  await advance(t, 60);
  assert.ok(seen.notFound >= 5 && seen.notFound <= 8, `got ${seen.notFound} responses with 404 in a minute`);
  seen.exists = true;
  seen.respond(/** @type {any} */ (new globalThis.Response('x', {headers: {'X-From': 'bob', 'X-Message-Id': '1'}})));
  await advance(t, 0.2);
  await sent;
});

test('a send to a server that does not hold a POST gives up on time', async t => {
  const {inbox, seen} = inboxWithHold(t, 0);
  const failed = assert.rejects(inbox.send('bob', 'x', {wait: 9}), {code: 'no-inbox'});
  await advance(t, 9.5);
  await failed;
  assert.equal(seen.notFound, 5, 'after 0, 1, 3, 7 and 9 seconds');
});

test('a poll without a response times out', async t => {
  t.mock.timers.enable({apis: ['setTimeout']});
  const inbox = openInbox('http://localhost/inbox', {
    fetch: (_url, options = {}) => new Promise((_resolve, reject) =>
      options.signal?.addEventListener('abort', () => reject(options.signal?.reason))),
  });
  const failed = nextDetail(inbox, 'error');
  inbox.start();
  await new Promise(resolve => setImmediate(resolve)); // until the poll is sent
  t.mock.timers.tick(10_000);
  assert.equal((await failed).code, 'network');
});

test('the status reflects the last request, poll or send', async t => {
  t.mock.timers.enable({apis: ['setTimeout', 'Date']});
  let works = true;
  const inbox = openInbox('http://localhost/inbox', {
    fetch: async (_url, {method} = {}) => {
      if (method === 'POST') return new globalThis.Response();
      return new globalThis.Response(null, {status: works ? 204 : 500});
    },
  });
  inbox.start();
  await advance(t, 1);
  assert.equal(inbox.status, 'open');
  works = false;
  await advance(t, 2);
  assert.equal(inbox.status, 'retrying');
  await inbox.send('bob', 'x');
  assert.equal(inbox.status, 'open', 'after a message was sent');
});

/**
 * Installs a fake source of online and offline events.
 * @param {import('node:test').TestContext} t
 */
function mockNetworkEvents(t) {
  const page = new EventTarget();
  for (const name of /** @type {const} */ (['addEventListener', 'removeEventListener'])) {
    Object.defineProperty(globalThis, name, {value: page[name].bind(page), configurable: true});
    t.after(() => Reflect.deleteProperty(globalThis, name));
  }
  return page;
}

for (const event of ['offline', 'online']) {
  test(`a held poll is repeated when the device goes ${event}`, async t => {
    const page = mockNetworkEvents(t);
    t.mock.timers.enable({apis: ['setTimeout', 'Date']});
    let held = 0;
    const inbox = openInbox('http://localhost/inbox', {
      fetch: (url, {signal} = {}) => new Promise((resolve, reject) => {
        if (String(url).endsWith('wait=0')) return resolve(new globalThis.Response(null, {status: 204}));
        held++;
        signal?.addEventListener('abort', () => reject(signal.reason));
      }),
    });
    inbox.start();
    await advance(t, 1);
    assert.equal(held, 1);
    page.dispatchEvent(new Event(event));
    await advance(t, 1);
    assert.equal(held, 2);
  });
}

test('a retry delay ends when the device is online again', async t => {
  const page = mockNetworkEvents(t);
  t.mock.timers.enable({apis: ['setTimeout', 'Date']});
  let requests = 0;
  const inbox = openInbox('http://localhost/inbox', {
    fetch: async () => (requests++, new globalThis.Response(null, {status: 503, headers: {'Retry-After': '600'}})),
  });
  inbox.start();
  await advance(t, 60);
  assert.equal(requests, 1);
  page.dispatchEvent(new Event('online'));
  await advance(t, 0.1);
  assert.equal(requests, 2);
});
