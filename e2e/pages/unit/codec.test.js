/** Tests codec.js: encoding, decoding, errors and retry delays. */

import assert from 'node:assert/strict';
import {test} from 'node:test';
import {InboxError, decode, encode, retryAfter, retryDelay} from '../../../public/codec.js';

for (const [status, code, passing] of /** @type {[number, string, boolean][]} */ ([
  [0, 'network', true], [0, 'closed', false], [0, 'queue-full', false],
  [400, 'bad-request', false], [401, 'unauthorized', false], [403, 'cross-site', false], [404, 'no-inbox', false], [413, 'body-too-large', false],
  [408, 'body-too-slow', true], [429, 'rate-limited', true], [500, 'internal', true], [502, 'refused', true], [503, 'inbox-full', true],
])) {
  test(`${status} ${code} is ${passing ? 'temporary' : 'permanent'}`, () => {
    assert.equal(new InboxError(code, '', {status}).passing, passing);
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
  for (const type of ['', 'application/octet-stream', 'application/trickle-ice-sdpfrag']) assert.equal(decode(type, bytes.buffer), bytes.buffer);
});
