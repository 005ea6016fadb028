/** Tests WaitTime of codec.js: the wait time after proxy timeouts and after full waits. */

import assert from 'node:assert/strict';
import {test} from 'node:test';
import {InboxError} from '../../../public/codec.js';
import {WaitTime, networkChange} from '../../../public/wait-time.js';

const gatewayTimeout = new InboxError('refused', '', {status: 504});

/** Completes a number of waits. @param {WaitTime} time @param {number} count */
function complete(time, count) {
  for (let i = 0; i < count; i++) time.complete(time.seconds, time.seconds * 1000);
}

for (const [name, error, timeout] of /** @type {[string, InboxError, boolean][]} */ ([
  ['a lost connection', new InboxError('network', ''), true],
  ['a network change of the device', new InboxError('network', '', {cause: networkChange}), false],
  ...[408, 500, 502, 503, 504, 520, 522, 524, 598].map(status => [`${status} of a proxy`, new InboxError('refused', '', {status}), true]),
  ...[400, 401, 403, 404, 413, 429].map(status => [`${status} of a proxy`, new InboxError('refused', '', {status}), false]),
  ['503 of a proxy with Retry-After', new InboxError('refused', '', {status: 503, retryAfter: 5}), false],
  ['503 of the server', new InboxError('stopping', '', {status: 503}), false],
  ['500 of the server', new InboxError('internal', '', {status: 500}), false],
  ['a login page', new InboxError('intercepted', '', {status: 200}), false],
])) {
  test(`${name} is ${timeout ? 'a proxy timeout' : 'not a proxy timeout'}`, () => {
    const time = new WaitTime();
    assert.equal(time.shorten(error, 25, 10_000), timeout);
    assert.equal(time.seconds, timeout ? 8 : 25);
  });
}

for (const [asked, elapsed, want] of [[25, 60_000, 20], [25, 30_000, 20], [25, 9_990, 7], [25, 2_000, 1], [25, 1_000, 0], [25, 999, 25], [0, 9_000, 25], [5, 3_000, 2]]) {
  test(`a proxy timeout after ${elapsed} ms of ${asked} seconds: ${want} seconds`, () => {
    const time = new WaitTime();
    assert.equal(time.shorten(gatewayTimeout, asked, elapsed), want < 25);
    assert.equal(time.seconds, want);
  });
}

test('a proxy timeout never lengthens the time', () => {
  const time = new WaitTime();
  time.shorten(gatewayTimeout, 25, 5_000);
  time.shorten(gatewayTimeout, 25, 20_000);
  assert.equal(time.seconds, 4);
});

test('full waits double the time up to 25 seconds, also from 0', () => {
  const time = new WaitTime();
  time.shorten(gatewayTimeout, 25, 1_000);
  const seen = [];
  for (let i = 0; i < 7; i++) {
    seen.push(time.seconds);
    complete(time, 8);
  }
  assert.deepEqual(seen, [0, 1, 2, 4, 8, 16, 25]);
});

test('each proxy timeout doubles the number of full waits before the time grows, up to a maximum', () => {
  const time = new WaitTime();
  for (const required of [8, 16, 32, 64, 128, 256, 512, 512]) {
    time.shorten(gatewayTimeout, time.seconds, 10_000);
    complete(time, required - 1);
    assert.equal(time.seconds, 8, `after ${required - 1} full waits`);
    complete(time, 1);
    assert.equal(time.seconds, 16, `after ${required} full waits`);
  }
});

test('short responses and shorter requests are not full waits', () => {
  const time = new WaitTime();
  time.shorten(gatewayTimeout, 25, 10_000);
  for (let i = 0; i < 100; i++) {
    time.complete(8, 3_000);
    time.complete(2, 2_000);
  }
  assert.equal(time.seconds, 8);
});
