/** Tests codec.js: encoding, decoding, errors and retry delays. */

import assert from 'node:assert/strict';
import {test} from 'node:test';
import {InboxError, decode, encode, readResponse, retryAfter, retryDelay} from '../../../public/codec.js';
import {Inbox} from '../../../public/inbox.js';

for (const [status, code, temporary] of /** @type {[number, string, boolean][]} */ ([
  [0, 'network', true], [0, 'closed', false], [0, 'queue-full', false],
  [0, 'intercepted', true], [200, 'intercepted', true], [302, 'intercepted', true],
  [401, 'refused', false], [403, 'refused', false], [404, 'refused', false], [425, 'refused', true], [429, 'refused', true],
  [400, 'bad-request', false], [401, 'unauthorized', false], [403, 'cross-site', false], [404, 'no-inbox', false], [413, 'body-too-large', false],
  [408, 'body-too-slow', true], [429, 'rate-limited', true], [500, 'internal', true], [502, 'refused', true], [503, 'inbox-full', true],
])) {
  test(`${status} ${code} is ${temporary ? 'temporary' : 'permanent'}`, () => {
    assert.equal(new InboxError(code, '', {status}).temporary, temporary);
  });
}

test('delays double up to 15 seconds and are never shorter than Retry-After', () => {
  for (const [failures, seconds, min, max] of [[0, 0, 250, 500], [1, 0, 500, 1000], [4, 0, 4000, 8000], [5, 0, 7500, 15_000], [60, 0, 7500, 15_000], [0, 10, 10_125, 10_250], [60, 10, 13_750, 17_500]]) {
    const error = new InboxError('network', '', {retryAfter: seconds});
    const pauses = Array.from({length: 200}, () => retryDelay(error, failures));
    assert.ok(pauses.every(pause => pause >= min && pause <= max),
      `after ${failures} failures with Retry-After ${seconds}: got ${Math.min(...pauses)} to ${Math.max(...pauses)}, want ${min} to ${max}`);
    assert.ok(new Set(pauses).size > 20, 'jitter');
  }
});

test('Retry-After is seconds or a date, capped at one hour', t => {
  t.mock.timers.enable({apis: ['Date'], now: Date.UTC(2026, 0, 1)});
  for (const [field, want] of /** @type {[string, number][]} */ ([
    ['', 0], ['0', 0], ['7', 7], ['86400', 3600], ['-5', 0], ['soon', 0], ['1e9', 0],
    ['Thu, 01 Jan 2026 00:00:30 GMT', 30], ['Wed, 31 Dec 2025 23:59:30 GMT', 0], ['Fri, 02 Jan 2026 00:00:00 GMT', 3600],
  ])) {
    assert.equal(retryAfter(new Response(null, {headers: field ? {'Retry-After': field} : {}})), want, field);
  }
});

test('data is encoded by its type and decoded by its media type', async () => {
  const bytes = new Uint8Array([0, 255]);
  for (const [data, type, text] of /** @type {[unknown, string, string][]} */ ([
    ['é', 'text/plain', 'é'], [{a: ['é']}, 'application/json', '{"a":["é"]}'], [null, 'application/json', 'null'],
    [new Blob(['ab']), 'application/octet-stream', 'ab'], [new TextEncoder().encode('ab').buffer, 'application/octet-stream', 'ab'],
    [new DataView(new TextEncoder().encode('abc').buffer, 1), 'application/octet-stream', 'bc'],
  ])) {
    const message = encode(data);
    assert.deepEqual([message.type, await new Response(message.body).text()], [type, text]);
  }
  const body = new TextEncoder().encode('{"v":0}').buffer;
  assert.deepEqual(decode('application/json', body), {v: 0});
  for (const type of ['text/plain', 'text/plain; charset=utf-8', 'application/sdp']) assert.equal(decode(type, body), '{"v":0}');
  assert.equal(decode('text/plain', new TextEncoder().encode('\ufeffa').buffer), '\ufeffa');
  for (const type of ['', 'application/octet-stream', 'application/trickle-ice-sdpfrag']) assert.equal(decode(type, bytes.buffer), bytes.buffer);
});

/** @param {number} status @param {string | null} body @param {Record<string, string>} [headers] */
const response = (status, body, headers = {}) => new Response(body, {status, headers});
const html = {'Content-Type': 'text/html'};
const login = '<!doctype html><title>Sign in</title>';
const message = {'X-Message-Id': '7', 'X-From': 'bob'};

/** Makes a response look like the result of a followed redirect. @param {Response} answer */
const redirected = answer => Object.defineProperty(answer, 'redirected', {value: true});
/** A response as browsers return it for a redirect that they do not follow. */
const opaqueRedirect = () => Object.defineProperties(Response.error(), {type: {value: 'opaqueredirect'}});

for (const [name, method, answer] of /** @type {[string, string, Response][]} */ ([
  ['a message', 'GET', response(200, 'x', message)],
  ['an empty message', 'GET', response(200, '', message)],
  ['no message', 'GET', response(204, null)],
  ['a stored message', 'POST', response(200, '')],
])) {
  test(`${name} is from an inbox server`, async () => {
    await readResponse(answer, method, {after: '6'});
  });
}

for (const [name, method, answer] of /** @type {[string, string, Response][]} */ ([
  ['a page to a poll', 'GET', response(200, login, html)],
  ['an empty page to a poll', 'GET', response(200, '')],
  ['JSON to a poll', 'GET', response(200, '{}', {'Content-Type': 'application/json'})],
  ['a message without a numeric ID', 'GET', response(200, 'x', {'X-Message-Id': 'abc'})],
  ['a message that was acknowledged', 'GET', response(200, 'x', {'X-Message-Id': '6'})],
  ['a message with another success status', 'GET', response(203, 'x', message)],
  ['202 to a poll', 'GET', response(202, '')],
  ['205 to a poll', 'GET', response(205, null)],
  ['a redirected message', 'GET', redirected(response(200, 'x', message))],
  ['a redirected 204', 'GET', redirected(response(204, null))],
  ['a redirected 404', 'GET', redirected(response(404, login, html))],
  ['302 to a poll', 'GET', response(302, null, {Location: '/login'})],
  ['a redirect of a poll in a browser', 'GET', opaqueRedirect()],
  ['a page to a POST', 'POST', response(200, login, html)],
  ['JSON to a POST', 'POST', response(200, '{"error":"login"}')],
  ['202 to a POST', 'POST', response(202, '')],
  ['204 to a POST', 'POST', response(204, null)],
  ['307 to a POST', 'POST', response(307, null, {Location: 'https://login.example/'})],
  ['a redirected POST', 'POST', redirected(response(200, ''))],
  ['a redirect of a POST in a browser', 'POST', opaqueRedirect()],
])) {
  test(`${name} is intercepted`, async () => {
    const {status} = answer;
    await assert.rejects(readResponse(answer, method, {after: '6'}), {code: 'intercepted', status, retryAfter: 0});
  });
}

test('the body of an intercepted poll is not read, and its request is aborted', async () => {
  const endless = new ReadableStream({pull: source => source.enqueue(new Uint8Array(1024))});
  /** @type {AbortSignal[]} */
  const signals = [];
  const inbox = new Inbox('https://example.org/inbox', {name: 'me', password: 'secret', fetch: async (_url, {signal} = {}) => {
    if (signal) signals.push(signal);
    return new Response(endless);
  }});
  await assert.rejects(inbox.request('GET', {after: ''}), {code: 'intercepted'});
  assert.deepEqual(signals.map(({aborted}) => aborted), [true]);
});

for (const body of [
  login, '', 'null', '[]', '"x"', '5', '{', '{}', '{"type":null}', '{"type":"about:blank","title":"t"}', '{"error":"forbidden"}',
  '{"type":"https://proxy.example/problems:network"}', '{"type":"urn:inbox:problem:"}', '{"type":"urn:inbox:problem:a:b"}', '{"type":{"a":"urn:inbox:problem:x"}}',
]) {
  test(`403 with the body ${body || 'of no bytes'} is from a proxy`, async () => {
    await assert.rejects(readResponse(response(403, body, {'Retry-After': '3'}), 'GET', {}), {code: 'refused', status: 403, retryAfter: 3});
  });
}

test('a problem document of the server is recognized, whatever its media type', async () => {
  const problem = '{"type":"urn:inbox:problem:no-inbox","title":"t","detail":"d"}';
  for (const type of ['application/problem+json', 'application/json', 'text/plain']) {
    await assert.rejects(readResponse(response(404, problem, {'Content-Type': type}), 'POST', {}), {code: 'no-inbox', message: 'd', status: 404});
  }
});
