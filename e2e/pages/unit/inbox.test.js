/** inbox.js against a small server of the protocol, written out here. */

import assert from 'node:assert/strict';
import {once} from 'node:events';
import {createServer} from 'node:http';
import {test} from 'node:test';
import {Inbox, InboxError} from '../../../public/inbox.js';
import {detailOf, later, open, settle} from '../lib/inboxes.js';

/**
 * @typedef {import('node:http').IncomingMessage} Request
 * @typedef {import('node:http').ServerResponse} Response
 * @typedef {{method: string, url: URL, headers: import('node:http').IncomingHttpHeaders, body: string, answer: Response}} Asked
 */

/**
 * A server whose every answer the test decides.
 * @param {(asked: Asked) => void} reply
 */
async function serve(reply) {
  /** @type {Asked[]} */
  const asked = [];
  const server = createServer(async (request, answer) => {
    let body = '';
    for await (const chunk of request) body += chunk;
    const one = {method: request.method ?? '', url: new URL(request.url ?? '', 'http://x'), headers: request.headers, body, answer};
    asked.push(one);
    reply(one);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  later(() => { server.closeAllConnections(); server.close(); });
  const address = /** @type {import('node:net').AddressInfo} */ (server.address());
  return {url: `http://127.0.0.1:${address.port}/inbox`, asked};
}

/** @param {Response} answer @param {number} status @param {Record<string, string>} [headers] @param {string} [body] */
function say(answer, status, headers = {}, body = '') {
  answer.writeHead(status, headers).end(body);
}

/** @param {Response} answer @param {string} id @param {string} type @param {string} body @param {string} [from] */
function mail(answer, id, type, body, from = 'bob') {
  say(answer, 200, {'X-Message-Id': id, 'X-From': from, 'Content-Type': type}, body);
}

/** @param {Asked} asked */
const isPoll = ({method}) => method === 'GET';

test('messages are decoded by type and acknowledged by the next poll', async () => {
  /** @type {[string, string][]} */
  const waiting = [['application/json', '{"a":1}'], ['text/plain', 'é'], ['application/octet-stream', 'abc']];
  const {url, asked} = await serve(({answer, url}) => {
    const next = waiting[Number(url.searchParams.get('after')) || 0];
    if (next) mail(answer, String(waiting.indexOf(next) + 1), ...next, 'b%C3%A9%25');
  });
  const inbox = open(url);
  /** @type {any[]} */
  const got = [];
  inbox.addEventListener('message', event => got.push(/** @type {CustomEvent} */ (event).detail));
  inbox.start();
  while (asked.length < 4) await new Promise(resolve => setTimeout(resolve, 5));
  assert.deepEqual(asked.map(({url}) => url.searchParams.get('after')), ['', '1', '2', '3']);
  assert.deepEqual(got.slice(0, 2).map(({data}) => data), [{a: 1}, 'é']);
  assert.equal(new TextDecoder().decode(got[2].data), 'abc');
  assert.equal(got[0].from, 'bé%');
  assert.equal(got[0].id, '1');
});

test('a message that cannot be read is skipped, and said so', async () => {
  const {url, asked} = await serve(({answer, url}) => {
    if (url.searchParams.get('after') === '') mail(answer, '7', 'application/json', '{');
  });
  const inbox = open(url);
  inbox.start();
  assert.equal((await detailOf(inbox, 'error')).code, 'unreadable');
  while (asked.length < 2) await new Promise(resolve => setTimeout(resolve, 5));
  assert.equal(asked[1].url.searchParams.get('after'), '7');
});

test('the first poll does not wait, those after it do, and there is one at a time', async () => {
  let held = 0;
  let most = 0;
  const {url, asked} = await serve(({answer, url}) => {
    most = Math.max(most, ++held);
    setTimeout(() => { held--; say(answer, 204); }, url.searchParams.get('wait') === '0' ? 0 : 510);
  });
  const inbox = open(url);
  inbox.start();
  inbox.start();
  while (asked.length < 3) await new Promise(resolve => setTimeout(resolve, 20));
  assert.deepEqual(asked.slice(0, 3).map(({url}) => url.searchParams.get('wait')), ['0', '25', '25']);
  assert.equal(most, 1, 'polls at once');
  assert.equal(inbox.status, 'open');
});

test('a superseded inbox stops, and start takes it back', async () => {
  let over = true;
  const {url, asked} = await serve(({answer}) => say(answer, 204, over ? {'X-Poll-Ended': 'superseded'} : {}));
  const inbox = open(url);
  inbox.start();
  await once(inbox, 'superseded');
  await new Promise(resolve => setTimeout(resolve, 100));
  assert.equal(asked.length, 1);
  assert.equal(inbox.status, 'superseded');
  over = false;
  inbox.start();
  assert.equal(await detailOf(inbox, 'status'), 'open');
});

test('start inside its own superseded listener makes no second loop', async () => {
  let open = 0;
  let most = 0;
  const {url, asked} = await serve(({answer}) => {
    most = Math.max(most, ++open);
    // Slow enough not to be paced, as a held poll is.
    setTimeout(() => { open--; say(answer, 204, asked.length === 1 ? {'X-Poll-Ended': 'superseded'} : {}); }, 510);
  });
  const inbox = new Inbox(url, {name: 'me', password: 'secret'});
  later(() => inbox.close());
  inbox.addEventListener('superseded', () => inbox.start());
  inbox.start();
  while (asked.length < 4) await new Promise(resolve => setTimeout(resolve, 20));
  assert.equal(most, 1, 'polls at once');
});

test('after a failure it pauses as long as the server asks, and goes on', async () => {
  let refusals = 1;
  const {url} = await serve(({answer}) => {
    if (refusals-- <= 0) return say(answer, 204);
    say(answer, 429, {'Retry-After': '1', 'Content-Type': 'application/problem+json'},
      '{"type":"urn:inbox:problem:payer-full","title":"t","detail":"too much"}');
  });
  const inbox = open(url);
  const began = Date.now();
  inbox.start();
  const error = await detailOf(inbox, 'error');
  assert.deepEqual([error.code, error.message, error.status, error.retryAfter], ['payer-full', 'too much', 429, 1]);
  assert.ok(error.retryIn >= 1, `got a pause of ${error.retryIn} s, want at least 1`);
  assert.equal(await detailOf(inbox, 'status'), 'open');
  assert.ok(Date.now() - began >= 1000, 'it paused');
});

test('a poll that ends with Retry-After is a stopping server', async () => {
  const {url} = await serve(({answer}) => say(answer, 204, {'Retry-After': '1'}));
  const inbox = open(url);
  inbox.start();
  const error = await detailOf(inbox, 'error');
  assert.equal(error.code, 'stopping');
  assert.ok(error.retryIn >= 1);
});

test('pauses grow, and are spread', async () => {
  let calls = 0;
  const failing = () => { calls++; return Promise.reject(new TypeError('down')); };
  const pauses = [];
  for (let i = 0; i < 20; i++) {
    const inbox = open('http://localhost/inbox', {fetch: failing});
    inbox.start();
    pauses.push((await detailOf(inbox, 'error')).retryIn);
    inbox.close();
  }
  assert.ok(pauses.every(pause => pause >= 0.25 && pause <= 0.5), `first pauses: ${pauses}`);
  assert.ok(new Set(pauses).size > 5, 'spread at random');
  const inbox = open('http://localhost/inbox', {fetch: failing});
  inbox.start();
  await detailOf(inbox, 'error');
  const second = (await detailOf(inbox, 'error')).retryIn;
  assert.ok(second >= 0.5 && second <= 1, `second pause: ${second}`);
});

test('sends are in order, by type, and survive failures', async () => {
  let refusals = 1;
  const {url, asked} = await serve(({answer}) => say(answer, refusals-- > 0 ? 503 : 200));
  const inbox = open(url);
  await Promise.all([inbox.send('bob', {n: 1}), inbox.send('bob', 'two'), inbox.send('bob', new Uint8Array([51]))]);
  assert.deepEqual(asked.map(({body}) => body), ['{"n":1}', '{"n":1}', 'two', '3']);
  assert.deepEqual(asked.slice(1).map(({headers}) => headers['content-type']),
    ['application/json', 'text/plain', 'application/octet-stream']);
});

test('a refusal for good rejects, and what follows is sent', async () => {
  const {url} = await serve(({answer, body}) => say(answer, body === 'big' ? 413 : 200));
  const inbox = open(url);
  const told = detailOf(inbox, 'error');
  const big = inbox.send('bob', 'big');
  const small = inbox.send('bob', 'small');
  await assert.rejects(big, (/** @type {InboxError} */ error) => error.status === 413 && error.code === 'refused');
  await small;
  const {status, retryIn} = await told;
  assert.deepEqual([status, retryIn], [413, 0], 'the page is told, and that it is for good');
});

test('one recipient that is not there does not hold up another', async () => {
  const {url} = await serve(({answer, url}) => {
    if (url.searchParams.get('to') === 'bob') say(answer, 200);
  });
  const inbox = open(url);
  const absent = inbox.send('nobody', 'x', {wait: Infinity});
  await inbox.send('bob', 'x');
  inbox.close();
  await assert.rejects(absent, {code: 'closed'});
});

test('the queue is bounded', async () => {
  const {url} = await serve(() => {});
  const inbox = open(url);
  const sent = Array.from({length: 200}, () => inbox.send('bob', 'x').catch(error => error.code));
  await assert.rejects(inbox.send('bob', 'x'), {code: 'queue-full'});
  inbox.close();
  assert.deepEqual(new Set(await Promise.all(sent)), new Set(['closed']));
});

test('a knock asks the server to hold it, and knocks again after an early 404', async () => {
  let absent = 1;
  const {url, asked} = await serve(({answer}) => say(answer, absent-- > 0 ? 404 : 200,
    {'Content-Type': 'application/problem+json'}, '{"type":"urn:inbox:problem:no-inbox","title":"t"}'));
  const inbox = open(url);
  await inbox.send('bob & cé', 'x', {wait: 30});
  assert.deepEqual(asked.map(({url}) => url.search), ['?to=bob%20%26%20c%C3%A9&wait=25', '?to=bob%20%26%20c%C3%A9&wait=25']);
});

test('without wait an absent recipient is a refusal', async () => {
  const {url} = await serve(({answer}) => say(answer, 404,
    {'Content-Type': 'application/problem+json'}, '{"type":"urn:inbox:problem:no-inbox","title":"t"}'));
  await assert.rejects(open(url).send('bob', 'x'), {code: 'no-inbox', status: 404});
});

test('requests carry UTF-8 credentials of their own, no cookies, and no cache', async () => {
  /** @type {RequestInit[]} */
  const asked = [];
  const inbox = open('http://localhost/inbox', {
    name: 'zoë', password: 'pässwörd €',
    fetch: (_url, options = {}) => { asked.push(options); return Promise.resolve(new Response()); },
  });
  await inbox.send('bob', 'x');
  const {cache, credentials, headers} = asked[0];
  assert.deepEqual({cache, credentials}, {cache: 'no-store', credentials: 'omit'});
  const [scheme, secret] = new Headers(headers).get('Authorization')?.split(' ') ?? [];
  assert.equal(scheme, 'Basic');
  assert.equal(Buffer.from(secret, 'base64').toString('utf8'), 'zoë:pässwörd €');
});

test('a message that comes while the inbox is closed is not handed out', async () => {
  const inbox = open('http://localhost/inbox', {
    fetch: async () => {
      const answer = new globalThis.Response('x', {headers: {'X-From': 'bob', 'X-Message-Id': '1'}});
      answer.arrayBuffer = async () => (inbox.close(), new ArrayBuffer(1));
      return answer;
    },
  });
  let messages = 0;
  inbox.addEventListener('message', () => messages++);
  inbox.start();
  await settle();
  assert.equal(inbox.status, 'closed');
  assert.equal(messages, 0);
});

test('a goodbye goes past the queue, outlives the page, and is said once, in vain too', async () => {
  /** @type {RequestInit[]} */
  const asked = [];
  const inbox = open('http://localhost/inbox', {
    fetch: (_url, options = {}) => {
      asked.push(options);
      return options.keepalive ? Promise.reject(new TypeError('down')) : new Promise(() => {});
    },
  });
  let errors = 0;
  inbox.addEventListener('error', () => errors++);
  inbox.send('bob', 'held').catch(() => {});
  await settle();
  inbox.sendLast('bob', {kind: 'bye'});
  await settle();
  assert.deepEqual(asked.map(({keepalive, body}) => [keepalive, body]), [[undefined, 'held'], [true, '{"kind":"bye"}']]);
  assert.equal(errors, 0);
});

test('close ends the poll under way and says nothing more', async () => {
  const {url, asked} = await serve(() => {});
  const inbox = open(url);
  let errors = 0;
  inbox.addEventListener('error', () => errors++);
  inbox.start();
  while (asked.length < 1) await new Promise(resolve => setTimeout(resolve, 5));
  const hungUp = once(asked[0].answer, 'close');
  inbox.close();
  await hungUp;
  assert.equal(inbox.status, 'closed');
  assert.equal(errors, 0);
  assert.equal(asked.filter(isPoll).length, 1);
});
