/** Tests inbox.js against a scripted HTTP server. */

import assert from 'node:assert/strict';
import {once} from 'node:events';
import {createServer} from 'node:http';
import {test} from 'node:test';
import {InboxError, StreamInbox as Inbox} from '../../../public/stream-inbox.js';
import {advance, flushPromises, nextDetail, onCleanup, openInbox} from '../lib/inboxes.js';

/**
 * @typedef {import('node:http').IncomingMessage} Request
 * @typedef {import('node:http').ServerResponse} Response
 * @typedef {{method: string, url: URL, headers: import('node:http').IncomingHttpHeaders, body: string, response: Response}} ReceivedRequest
 */

/**
 * Starts a server whose responses the test scripts.
 * @param {(request: ReceivedRequest) => void} reply
 */
async function serve(reply) {
  /** @type {ReceivedRequest[]} */
  const requests = [];
  const server = createServer(async (request, response) => {
    let body = '';
    for await (const chunk of request) body += chunk;
    const received = {method: request.method ?? '', url: new URL(request.url ?? '', 'http://x'), headers: request.headers, body, response};
    requests.push(received);
    reply(received);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  onCleanup(() => { server.closeAllConnections(); server.close(); });
  const address = /** @type {import('node:net').AddressInfo} */ (server.address());
  return {url: `http://127.0.0.1:${address.port}/inbox`, requests};
}

/** @param {Response} response @param {number} status @param {Record<string, string>} [headers] @param {string} [body] */
function respond(response, status, headers = {}, body = '') {
  response.writeHead(status, headers).end(body);
}

/** @param {Response} response @param {string} id @param {string} type @param {string} body @param {string} [from] */
function respondWithMessage(response, id, type, body, from = 'bob') {
  respond(response, 200, {'X-Message-Id': id, 'X-From': from, 'Content-Type': type}, body);
}

/** @param {ReceivedRequest} request */
const isPoll = ({method}) => method === 'GET';

test('an aborted send ends its request, and the next one to the same recipient is sent', async () => {
  const abort = new AbortController();
  const {url, requests} = await serve(({method, body, response}) => {
    if (method === 'POST' && body === 'one') abort.abort(new Error('enough')); // it waits for the recipient
    else if (method === 'POST') respond(response, 200);
  });
  const inbox = openInbox(url);
  const [one, two] = [inbox.send('bob', 'one', {wait: Infinity, signal: abort.signal}), inbox.send('bob', 'two')];
  await assert.rejects(one, /enough/);
  await two;
  await assert.rejects(inbox.send('bob', 'three', {signal: abort.signal}), /enough/);
  assert.deepEqual(requests.map(({body}) => body), ['one', 'two']);
});

test('a problem of the server has its type', async () => {
  const type = 'urn:inbox:problem:body-too-large';
  const {url} = await serve(({response}) => respond(response, 413, {'Content-Type': 'application/problem+json'}, JSON.stringify({type, title: 'large', status: 413})));
  await assert.rejects(openInbox(url).send('bob', 'x'), {name: 'InboxError', code: 'body-too-large', type, status: 413});
});

test('messages are decoded by type and acknowledged by the next poll', async () => {
  /** @type {[string, string][]} */
  const waiting = [['application/json', '{"a":1}'], ['text/plain', 'é'], ['application/octet-stream', 'abc']];
  const {url, requests} = await serve(({response, url}) => {
    const next = waiting[Number(url.searchParams.get('after')) || 0];
    if (next) respondWithMessage(response, String(waiting.indexOf(next) + 1), ...next, 'b%C3%A9%25');
  });
  const inbox = openInbox(url);
  /** @type {any[]} */
  const got = [];
  inbox.addEventListener('message', event => got.push(/** @type {CustomEvent} */ (event).detail));
  inbox.start();
  while (requests.length < 4) await new Promise(resolve => setTimeout(resolve, 5));
  assert.deepEqual(requests.map(({url}) => url.searchParams.get('after')), ['', '1', '2', '3']);
  assert.deepEqual(got.slice(0, 2).map(({data}) => data), [{a: 1}, 'é']);
  assert.equal(new TextDecoder().decode(got[2].data), 'abc');
  assert.equal(got[0].from, 'bé%');
  assert.equal(got[0].id, '1');
});

test('a message that cannot be decoded is skipped and reported', async () => {
  const {url, requests} = await serve(({response, url}) => {
    if (url.searchParams.get('after') === '') respondWithMessage(response, '7', 'application/json', '{');
  });
  const inbox = openInbox(url);
  inbox.start();
  assert.equal((await nextDetail(inbox, 'error')).code, 'unreadable');
  while (requests.length < 2) await new Promise(resolve => setTimeout(resolve, 5));
  assert.equal(requests[1].url.searchParams.get('after'), '7');
});

test('the first poll does not wait, later polls do, and they do not overlap', async () => {
  let waiting = 0;
  let maxConcurrent = 0;
  const {url, requests} = await serve(({response, url}) => {
    maxConcurrent = Math.max(maxConcurrent, ++waiting);
    setTimeout(() => { waiting--; respond(response, 204); }, url.searchParams.get('wait') === '0' ? 0 : 510);
  });
  const inbox = openInbox(url);
  inbox.start();
  inbox.start();
  while (requests.length < 3) await new Promise(resolve => setTimeout(resolve, 20));
  assert.deepEqual(requests.slice(0, 3).map(({url}) => url.searchParams.get('wait')), ['0', '25', '25']);
  assert.equal(maxConcurrent, 1, 'concurrent polls');
  assert.equal(inbox.status, 'open');
});

test('a superseded inbox stops, and start reclaims the mailbox', async () => {
  let superseded = true;
  const {url, requests} = await serve(({response}) => respond(response, 204, superseded ? {'X-Poll-Ended': 'superseded'} : {}));
  const inbox = openInbox(url);
  inbox.start();
  await once(inbox, 'superseded');
  await new Promise(resolve => setTimeout(resolve, 100));
  assert.equal(requests.length, 1);
  assert.equal(inbox.status, 'superseded');
  superseded = false;
  inbox.start();
  assert.equal(await nextDetail(inbox, 'status'), 'open');
});

test('start inside a superseded listener does not start a second loop', async () => {
  let open = 0;
  let maxConcurrent = 0;
  const {url, requests} = await serve(({response}) => {
    maxConcurrent = Math.max(maxConcurrent, ++open);
    // Slow like a long poll, so that the client does not limit the rate.
    setTimeout(() => { open--; respond(response, 204, requests.length === 1 ? {'X-Poll-Ended': 'superseded'} : {}); }, 510);
  });
  const inbox = new Inbox(url, {name: 'me', password: 'secret', transports: []});
  onCleanup(() => inbox.close());
  inbox.addEventListener('superseded', () => inbox.start());
  inbox.start();
  while (requests.length < 4) await new Promise(resolve => setTimeout(resolve, 20));
  assert.equal(maxConcurrent, 1, 'concurrent polls');
});

test('after a failure the inbox waits at least Retry-After, then continues', async () => {
  let refusals = 1;
  const {url} = await serve(({response}) => {
    if (refusals-- <= 0) return respond(response, 204);
    respond(response, 429, {'Retry-After': '1', 'Content-Type': 'application/problem+json'},
      '{"type":"urn:inbox:problem:payer-full","title":"t","detail":"too much"}');
  });
  const inbox = openInbox(url);
  const started = Date.now();
  inbox.start();
  const error = await nextDetail(inbox, 'error');
  assert.deepEqual([error.code, error.message, error.status, error.retryAfter], ['payer-full', 'too much', 429, 1]);
  assert.ok(error.retryIn >= 1, `got a delay of ${error.retryIn} s, want at least 1`);
  assert.equal(await nextDetail(inbox, 'status'), 'open');
  assert.ok(Date.now() - started >= 1000, 'waited for Retry-After');
});

test('a poll that ends with Retry-After means that the server is stopping', async () => {
  const {url} = await serve(({response}) => respond(response, 204, {'Retry-After': '1'}));
  const inbox = openInbox(url);
  inbox.start();
  const error = await nextDetail(inbox, 'error');
  assert.equal(error.code, 'stopping');
  assert.ok(error.retryIn >= 1);
});

test('delays grow and have jitter', async () => {
  let calls = 0;
  const failing = () => { calls++; return Promise.reject(new TypeError('down')); };
  const pauses = [];
  for (let i = 0; i < 20; i++) {
    const inbox = openInbox('http://localhost/inbox', {fetch: failing});
    inbox.start();
    pauses.push((await nextDetail(inbox, 'error')).retryIn);
    inbox.close();
  }
  assert.ok(pauses.every(pause => pause >= 0.25 && pause <= 0.5), `first delays: ${pauses}`);
  assert.ok(new Set(pauses).size > 5, 'jitter');
  const inbox = openInbox('http://localhost/inbox', {fetch: failing});
  inbox.start();
  await nextDetail(inbox, 'error');
  const second = (await nextDetail(inbox, 'error')).retryIn;
  assert.ok(second >= 0.5 && second <= 1, `second delay: ${second}`);
});

test('the maximum delay can be lowered, but not below Retry-After', async t => {
  t.mock.timers.enable({apis: ['setTimeout', 'Date']});
  let retryAfter = {};
  const inbox = openInbox('http://localhost/inbox', {fetch: async () => new globalThis.Response(null, {status: 503, headers: retryAfter})});
  inbox.maxRetryDelay = 2_000;
  /** @type {number[]} */
  const delays = [];
  inbox.addEventListener('error', event => delays.push(/** @type {CustomEvent} */ (event).detail.retryIn));
  inbox.start();
  await advance(t, 30);
  assert.ok(delays.length >= 15, `got ${delays.length} attempts in 30 s`);
  assert.ok(delays.every(delay => delay <= 2), `got the delays ${delays}`);
  retryAfter = {'Retry-After': '9'};
  await advance(t, 3);
  assert.ok(/** @type {number} */ (delays.at(-1)) >= 9, `got the delay ${delays.at(-1)}`);
});

test('sends keep their order and type across failures', async () => {
  let refusals = 1;
  const {url, requests} = await serve(({response}) => respond(response, refusals-- > 0 ? 503 : 200));
  const inbox = openInbox(url);
  await Promise.all([inbox.send('bob', {n: 1}), inbox.send('bob', 'two'), inbox.send('bob', new Uint8Array([51]))]);
  assert.deepEqual(requests.map(({body}) => body), ['{"n":1}', '{"n":1}', 'two', '3']);
  assert.deepEqual(requests.slice(1).map(({headers}) => headers['content-type']),
    ['application/json', 'text/plain', 'application/octet-stream']);
});

test('a permanent error rejects the send, and the next message is sent', async () => {
  const {url} = await serve(({response, body}) => respond(response, body === 'big' ? 413 : 200));
  const inbox = openInbox(url);
  const reported = nextDetail(inbox, 'error');
  const big = inbox.send('bob', 'big');
  const small = inbox.send('bob', 'small');
  await assert.rejects(big, (/** @type {InboxError} */ error) => error.status === 413 && error.code === 'refused');
  await small;
  const {status, retryIn} = await reported;
  assert.deepEqual([status, retryIn], [413, 0], 'the error event reports no retry');
});

test('a missing recipient does not delay other recipients', async () => {
  const {url} = await serve(({response, url}) => {
    if (url.searchParams.get('to') === 'bob') respond(response, 200);
  });
  const inbox = openInbox(url);
  const absent = inbox.send('absent', 'x', {wait: Infinity});
  await inbox.send('bob', 'x');
  inbox.close();
  await assert.rejects(absent, {code: 'closed'});
});

test('the queue is bounded', async () => {
  const {url} = await serve(() => {});
  const inbox = openInbox(url);
  const sent = Array.from({length: 200}, () => inbox.send('bob', 'x').catch(error => error.code));
  await assert.rejects(inbox.send('bob', 'x'), {code: 'queue-full'});
  inbox.close();
  assert.deepEqual(new Set(await Promise.all(sent)), new Set(['closed']));
});

test('a send asks the server to wait, and retries after an early 404', async () => {
  let absent = 1;
  const {url, requests} = await serve(({response}) => {
    if (absent-- <= 0) return respond(response, 200);
    respond(response, 404, {'Content-Type': 'application/problem+json'}, '{"type":"urn:inbox:problem:no-inbox","title":"t"}');
  });
  const inbox = openInbox(url);
  await inbox.send('bob & cé', 'x', {wait: 30});
  assert.deepEqual(requests.map(({url}) => url.search), ['?to=bob+%26+c%C3%A9&wait=25', '?to=bob+%26+c%C3%A9&wait=25']);
});

test('without wait, a missing recipient is an error', async () => {
  const {url} = await serve(({response}) => respond(response, 404,
    {'Content-Type': 'application/problem+json'}, '{"type":"urn:inbox:problem:no-inbox","title":"t"}'));
  await assert.rejects(openInbox(url).send('bob', 'x'), {code: 'no-inbox', status: 404});
});

test('requests carry UTF-8 credentials, send no cookies and bypass the cache', async () => {
  /** @type {RequestInit[]} */
  const requests = [];
  const inbox = openInbox('http://localhost/inbox', {
    name: 'zoë', password: 'pässwörd €',
    fetch: (_url, options = {}) => { requests.push(options); return Promise.resolve(new Response()); },
  });
  await inbox.send('bob', 'x');
  const {cache, credentials, headers} = requests[0];
  assert.deepEqual({cache, credentials}, {cache: 'no-store', credentials: 'omit'});
  const [scheme, secret] = new Headers(headers).get('Authorization')?.split(' ') ?? [];
  assert.equal(scheme, 'Basic');
  assert.equal(Buffer.from(secret, 'base64').toString('utf8'), 'zoë:pässwörd €');
});

test('a message that arrives while the inbox closes is not dispatched', async () => {
  const inbox = openInbox('http://localhost/inbox', {
    fetch: async () => {
      const answer = new globalThis.Response('x', {headers: {'X-From': 'bob', 'X-Message-Id': '1'}});
      answer.arrayBuffer = async () => (inbox.close(), new ArrayBuffer(1));
      return answer;
    },
  });
  let messages = 0;
  inbox.addEventListener('message', () => messages++);
  inbox.start();
  await flushPromises();
  assert.equal(inbox.status, 'closed');
  assert.equal(messages, 0);
});

test('the last message bypasses the queue, outlives the page and is not retried', async () => {
  /** @type {RequestInit[]} */
  const requests = [];
  const inbox = openInbox('http://localhost/inbox', {
    fetch: (_url, options = {}) => {
      requests.push(options);
      return options.keepalive ? Promise.reject(new TypeError('down')) : new Promise(() => {});
    },
  });
  let errors = 0;
  inbox.addEventListener('error', () => errors++);
  inbox.send('bob', 'queued').catch(() => {});
  await flushPromises();
  inbox.sendLast('bob', {kind: 'bye'});
  await flushPromises();
  assert.deepEqual(requests.map(({keepalive, body}) => [keepalive, body]), [[undefined, 'queued'], [true, '{"kind":"bye"}']]);
  assert.equal(errors, 0);
});

test('release ends the requests and deletes the mailbox, also when the page closes', async () => {
  /** @type {RequestInit[]} */
  const requests = [];
  /** @type {string[]} */
  const urls = [];
  const inbox = openInbox('http://localhost/inbox', {
    fetch: (url, options = {}) => {
      urls.push(String(url));
      requests.push(options);
      return options.method === 'DELETE' ? Promise.reject(new TypeError('down')) : new Promise(() => {});
    },
  });
  let errors = 0;
  inbox.addEventListener('error', () => errors++);
  inbox.start();
  await flushPromises();
  inbox.release();
  await flushPromises();
  assert.deepEqual(requests.map(({method}) => method), ['GET', 'DELETE']);
  assert.equal(requests[0].signal?.aborted, true);
  assert.equal(requests[1].keepalive, true);
  assert.equal(requests[1].signal, undefined);
  assert.equal(urls[1], `http://localhost/inbox?client=${new URL(urls[0]).searchParams.get('client')}`);
  assert.equal(new Headers(requests[1].headers).get('Authorization'), inbox.authorization);
  assert.equal(inbox.status, 'closed');
  assert.equal(errors, 0);
});

test('close aborts the current poll without an error', async () => {
  const {url, requests} = await serve(() => {});
  const inbox = openInbox(url);
  let errors = 0;
  inbox.addEventListener('error', () => errors++);
  inbox.start();
  while (requests.length < 1) await new Promise(resolve => setTimeout(resolve, 5));
  const hungUp = once(requests[0].response, 'close');
  inbox.close();
  await hungUp;
  assert.equal(inbox.status, 'closed');
  assert.equal(errors, 0);
  assert.equal(requests.filter(isPoll).length, 1);
});
