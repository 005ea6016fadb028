/** Tests the timeouts, delays and request rates of inbox.js with a mock clock. */

import assert from 'node:assert/strict';
import {test} from 'node:test';
import {advance, mockDocument, mockNetworkEvents, nextDetail, openInbox} from '../lib/inboxes.js';

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
 * Opens an inbox on a fake server that waits for a time before it answers a POST, and counts the
 * 404 responses, which a browser would log to its console.
 * @param {import('node:test').TestContext} t
 * @param {number} wait milliseconds
 */
function inboxOnServerThatWaits(t, wait) {
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
      }, wait);
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

test('a server that waits for less time than requested responds with one 404, not one per POST', async t => {
  const {inbox, seen} = inboxOnServerThatWaits(t, 3_000);
  const sent = inbox.send('bob', 'x', {wait: Infinity});
  await advance(t, 60);
  assert.equal(seen.notFound, 1);
  assert.ok(seen.posts >= 28 && seen.posts <= 31, `got ${seen.posts} POSTs in a minute`);
  seen.exists = true;
  await advance(t, 3);
  await sent;
});

test('retries to a server that does not wait back off until the recipient sends a message', async t => {
  const {inbox, seen} = inboxOnServerThatWaits(t, 0);
  inbox.start();
  const sent = inbox.send('bob', 'x', {wait: Infinity});
  await advance(t, 60);
  assert.ok(seen.notFound >= 5 && seen.notFound <= 8, `got ${seen.notFound} responses with 404 in a minute`);
  seen.exists = true;
  seen.respond(/** @type {any} */ (new globalThis.Response('x', {headers: {'X-From': 'bob', 'X-Message-Id': '1'}})));
  await advance(t, 0.2);
  await sent;
});

test('a send to a server that does not wait gives up on time', async t => {
  const {inbox, seen} = inboxOnServerThatWaits(t, 0);
  const failed = assert.rejects(inbox.send('bob', 'x', {wait: 9}), {code: 'no-inbox'});
  await advance(t, 9.5);
  await failed;
  assert.equal(seen.notFound, 5, 'after 0, 1, 3, 7 and 9 seconds');
});

/**
 * Opens an inbox behind a fake proxy that aborts each request after a time.
 * @param {import('node:test').TestContext} t
 * @param {() => globalThis.Response | null} respond returns the proxy's response, null for a lost connection
 */
function inboxBehindProxy(t, respond) {
  t.mock.timers.enable({apis: ['setTimeout', 'Date']});
  /** @type {{waits: number[], events: string[], limit: number, aborts: number, posts: number}} */
  const seen = {waits: [], events: [], limit: 10_000, aborts: 0, posts: 0};
  const inbox = openInbox('http://localhost/inbox', {
    fetch: (url, {method, signal} = {}) => new Promise((resolve, reject) => {
      signal?.addEventListener('abort', () => reject(signal.reason));
      const wait = 1000 * Number(new URL(String(url)).searchParams.get('wait'));
      if (method === 'POST') seen.posts++;
      else seen.waits.push(wait / 1000);
      const respondInTime = () => resolve(method === 'GET' ? new globalThis.Response(null, {status: 204})
        : new globalThis.Response('{"type":"urn:inbox:problem:no-inbox","title":"t"}', {status: 404}));
      const abort = () => {
        if (signal?.aborted) return;
        seen.aborts++;
        const response = respond();
        if (response) resolve(response);
        else reject(new TypeError('connection lost'));
      };
      if (wait >= seen.limit) setTimeout(abort, seen.limit);
      else setTimeout(respondInTime, wait);
    }),
  });
  inbox.addEventListener('error', event => seen.events.push(/** @type {CustomEvent} */ (event).detail.code));
  inbox.addEventListener('status', () => seen.events.push(inbox.status));
  return {inbox, seen};
}

for (const [name, respond] of /** @type {[string, () => globalThis.Response | null][]} */ ([
  ['502', () => new globalThis.Response('<h1>Bad Gateway</h1>', {status: 502})],
  ['504', () => new globalThis.Response('<h1>Gateway Time-out</h1>', {status: 504})],
  ['524', () => new globalThis.Response('', {status: 524})],
  ['a lost connection', () => null],
])) {
  test(`a proxy that aborts polls with ${name}: shorter polls without an error`, async t => {
    const {inbox, seen} = inboxBehindProxy(t, respond);
    inbox.start();
    await advance(t, 60);
    assert.deepEqual(seen.waits.slice(0, 6), [0, 25, 0, 8, 8, 8]);
    assert.deepEqual(seen.events, ['retrying', 'open']);
    await advance(t, 540);
    assert.ok(seen.aborts <= 4, `got ${seen.aborts} aborted polls in 10 minutes, want at most 4`);
    assert.deepEqual(seen.events, ['retrying', 'open']);
    seen.limit = Infinity;
    await advance(t, 1_800);
    assert.equal(seen.waits.at(-1), 25, 'polls grow again');
  });
}

for (const limit of [1_000, 1_500, 3_000, 20_000]) {
  test(`a proxy that aborts polls after ${limit} ms`, async t => {
    const {inbox, seen} = inboxBehindProxy(t, () => null);
    seen.limit = limit;
    inbox.start();
    await advance(t, 120);
    assert.ok(seen.aborts >= 1 && seen.aborts <= 6, `got ${seen.aborts} aborted polls`);
    assert.ok(seen.waits.length <= 125, `got ${seen.waits.length} polls in two minutes`);
    assert.deepEqual(seen.events, ['retrying', 'open']);
  });
}

test('a poll that is aborted while the server is down is an error', async t => {
  const {inbox, seen} = inboxBehindProxy(t, () => null);
  inbox.start();
  await advance(t, 1);
  seen.limit = 0; // for each later request
  await advance(t, 11);
  assert.deepEqual(seen.events.slice(0, 4), ['retrying', 'open', 'retrying', 'network']);
});

test('a POST that is aborted while it waits is repeated without an error and with a shorter wait', async t => {
  const {inbox, seen} = inboxBehindProxy(t, () => new globalThis.Response('', {status: 504}));
  void inbox.send('bob', 'x', {wait: Infinity}).catch(() => {});
  await advance(t, 120);
  assert.equal(seen.aborts, 1);
  assert.ok(seen.posts >= 14 && seen.posts <= 18, `got ${seen.posts} POSTs in two minutes`);
  assert.deepEqual(seen.events, []);
});

test('a POST that is aborted repeatedly is an error', async t => {
  const {inbox, seen} = inboxBehindProxy(t, () => (seen.limit = 1_500, new globalThis.Response('', {status: 504})));
  void inbox.send('bob', 'x', {wait: Infinity}).catch(() => {});
  await advance(t, 20);
  assert.ok(seen.events.includes('refused'), `got the events ${seen.events}`);
});

for (const [name, respond] of /** @type {[string, () => globalThis.Response][]} */ ([
  ['a page', () => new globalThis.Response('<title>Sign in</title>', {headers: {'Content-Type': 'text/html'}})],
  ['a redirect', () => new globalThis.Response(null, {status: 302, headers: {Location: '/login'}})],
  ['an old message', () => new globalThis.Response('x', {headers: {'X-Message-Id': '1', 'X-From': 'bob'}})],
  ['401 of a proxy', () => new globalThis.Response('<h1>401</h1>', {status: 401})],
  ['403 of a proxy', () => new globalThis.Response('<h1>403</h1>', {status: 403})],
])) {
  test(`${name} in place of the server's response: the polls back off`, async t => {
    t.mock.timers.enable({apis: ['setTimeout', 'Date']});
    let polls = 0;
    let messages = 0;
    const inbox = openInbox('http://localhost/inbox', {fetch: async () => (polls++, respond())});
    /** @type {number[]} */
    const delays = [];
    inbox.addEventListener('error', event => delays.push(/** @type {CustomEvent} */ (event).detail.retryIn));
    inbox.addEventListener('message', () => messages++);
    inbox.start();
    await advance(t, 60);
    assert.ok(polls >= 7 && polls <= 16, `got ${polls} polls in a minute`);
    assert.ok(/** @type {number} */ (delays.at(-1)) >= 7.5, `the last delay is ${delays.at(-1)} s`);
    assert.notEqual(inbox.status, 'open');
    assert.equal(messages, name === 'an old message' ? 1 : 0, 'each message is dispatched once');
  });
}

test('an intercepted message is sent when the server responds again', async t => {
  t.mock.timers.enable({apis: ['setTimeout', 'Date']});
  let intercepted = true;
  let posts = 0;
  const inbox = openInbox('http://localhost/inbox', {fetch: async () => (posts++, new globalThis.Response(intercepted ? '<p>' : ''))});
  let sent = false;
  const sending = inbox.send('bob', 'x').then(() => { sent = true; });
  await advance(t, 60);
  assert.ok(!sent, 'the page is not the server');
  assert.ok(posts <= 12, `got ${posts} POSTs in a minute`);
  intercepted = false;
  await advance(t, 16);
  await sending;
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

for (const event of ['offline', 'online']) {
  test(`a long poll is repeated when the device goes ${event}`, async t => {
    const page = mockNetworkEvents(t);
    t.mock.timers.enable({apis: ['setTimeout', 'Date']});
    let polls = 0;
    const inbox = openInbox('http://localhost/inbox', {
      fetch: (url, {signal} = {}) => new Promise((resolve, reject) => {
        if (String(url).endsWith('wait=0')) return resolve(new globalThis.Response(null, {status: 204}));
        polls++;
        signal?.addEventListener('abort', () => reject(signal.reason));
      }),
    });
    inbox.start();
    await advance(t, 1);
    assert.equal(polls, 1);
    page.dispatchEvent(new Event(event));
    await advance(t, 1);
    assert.equal(polls, 2);
  });
}

for (const [name, retryAfter, want] of /** @type {const} */ ([
  ['without Retry-After', {}, 1], ['with Retry-After, not before it', {'Retry-After': '600'}, 0],
])) {
  test(`a retry delay ends when the device is online again, ${name}`, async t => {
    const page = mockNetworkEvents(t);
    t.mock.timers.enable({apis: ['setTimeout', 'Date']});
    let requests = 0;
    const inbox = openInbox('http://localhost/inbox', {
      fetch: async () => (requests++, new globalThis.Response(null, {status: 503, headers: retryAfter})),
    });
    inbox.start();
    await advance(t, 60);
    const before = requests;
    page.dispatchEvent(new Event('online'));
    await advance(t, 0.1);
    assert.equal(requests - before, want);
  });
}

for (const [source, event] of /** @type {const} */ ([
  ['document', 'visibilitychange'], ['document', 'resume'], ['window', 'pageshow'], ['window', 'online'],
])) {
  test(`${event}: requests that can be dead are repeated at once, and only once`, async t => {
    const window = mockNetworkEvents(t);
    const document = mockDocument(t);
    t.mock.timers.enable({apis: ['setTimeout', 'Date']});
    /** @type {string[]} */
    const requests = [];
    const inbox = openInbox('http://localhost/inbox', {
      client: 'phone',
      fetch: (url, {method, signal} = {}) => new Promise((resolve, reject) => {
        requests.push(`${method} ${String(url).split('?')[1]}`);
        signal?.addEventListener('abort', () => reject(signal.reason));
        if (String(url).endsWith('wait=0')) resolve(new globalThis.Response(null, {status: 204}));
      }),
    });
    /** @type {string[]} */
    const events = [];
    inbox.start();
    await advance(t, 0.1);
    for (const name of ['error', 'status', 'connection']) inbox.addEventListener(name, () => events.push(name));
    inbox.send('bob', 'x', {wait: 60}).catch(() => {});
    await advance(t, 4);
    const wake = () => (source === 'window' ? window : document).dispatchEvent(new Event(event));
    document.visibilityState = 'hidden';
    if (event !== 'online') wake();
    document.visibilityState = 'visible';
    const before = requests.length;
    wake();
    wake();
    await advance(t, 0.1);
    wake();
    await advance(t, 0.1);
    const [first, ...others] = requests.slice(before);
    assert.equal(first, 'GET after=&client=phone&resume=1&wait=0', 'a poll comes before the messages');
    assert.deepEqual(others.sort(), ['GET after=&client=phone&resume=1&wait=25', 'POST to=bob&wait=25']);
    assert.deepEqual(events, []);
  });
}

for (const [name, respond, lost] of /** @type {[string, () => globalThis.Response, boolean][]} */ ([
  ['a lost connection', () => { throw new TypeError('down'); }, true],
  ['a stopping server', () => new globalThis.Response(null, {status: 204, headers: {'Retry-After': '1'}}), true],
  ['502 of a proxy', () => new globalThis.Response('', {status: 502}), true],
  ['429 of a proxy', () => new globalThis.Response('', {status: 429}), false],
  ['429 of the server', () => new globalThis.Response('{"type":"urn:inbox:problem:rate-limited","title":"t"}', {status: 429}), false],
  ['503 of the server', () => new globalThis.Response('{"type":"urn:inbox:problem:store-unavailable","title":"t"}', {status: 503}), false],
  ['a login page', () => new globalThis.Response('<title>Sign in</title>'), false],
])) {
  test(`${name}: the connection ${lost ? 'is lost until a poll succeeds' : 'is not lost'}`, async t => {
    t.mock.timers.enable({apis: ['setTimeout', 'Date']});
    let failing = true;
    const inbox = openInbox('http://localhost/inbox', {fetch: async () => failing ? respond() : new globalThis.Response(null, {status: 204})});
    /** @type {string[]} */
    const events = [];
    inbox.addEventListener('connection', event => events.push(/** @type {CustomEvent} */ (event).detail));
    inbox.start();
    await advance(t, 10);
    assert.deepEqual(events, lost ? ['lost'] : []);
    failing = false;
    await advance(t, 20);
    assert.equal(inbox.status, 'open');
    assert.deepEqual(events, lost ? ['lost', 'restored'] : []);
  });
}

for (const [name, respond, want] of /** @type {[string, () => globalThis.Response | null, string[]][]} */ ([
  ['with 504', () => new globalThis.Response('', {status: 504}), []],
  ['by closing the connection', () => null, ['lost', 'restored']],
])) {
  test(`a proxy that aborts a poll ${name}: the connection ${want.length ? 'is lost for a moment' : 'is not lost'}`, async t => {
    const {inbox, seen} = inboxBehindProxy(t, respond);
    inbox.addEventListener('connection', event => seen.events.push(/** @type {CustomEvent} */ (event).detail));
    inbox.start();
    await advance(t, 20);
    assert.deepEqual(seen.events, ['retrying', 'open', ...want]);
  });
}

test('a failed send does not lose the connection: only polls show it', async t => {
  t.mock.timers.enable({apis: ['setTimeout', 'Date']});
  const inbox = openInbox('http://localhost/inbox', {
    fetch: async (_url, {method} = {}) => {
      if (method === 'POST') throw new TypeError('down');
      return new globalThis.Response(null, {status: 204});
    },
  });
  let events = 0;
  inbox.addEventListener('connection', () => events++);
  inbox.start();
  void inbox.send('bob', 'x').catch(() => {});
  await advance(t, 10);
  assert.equal(events, 0);
});
