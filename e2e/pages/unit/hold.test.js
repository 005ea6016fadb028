/** Tests hold.js: the hold time after cuts and after complete holds. */

import assert from 'node:assert/strict';
import {test} from 'node:test';
import {InboxError} from '../../../public/codec.js';
import {HoldTime, networkChange} from '../../../public/hold.js';

const gatewayTimeout = new InboxError('refused', '', {status: 504});

/** Completes a number of holds. @param {HoldTime} hold @param {number} count */
function complete(hold, count) {
  for (let i = 0; i < count; i++) hold.complete(hold.seconds, hold.seconds * 1000);
}

for (const [name, error, cut] of /** @type {[string, InboxError, boolean][]} */ ([
  ['a lost connection', new InboxError('network', ''), true],
  ['a network change of the device', new InboxError('network', '', {cause: networkChange}), false],
  ...[408, 500, 502, 503, 504, 520, 522, 524, 598].map(status => [`${status} of a proxy`, new InboxError('refused', '', {status}), true]),
  ...[400, 401, 403, 404, 413, 429].map(status => [`${status} of a proxy`, new InboxError('refused', '', {status}), false]),
  ['503 of a proxy with Retry-After', new InboxError('refused', '', {status: 503, retryAfter: 5}), false],
  ['503 of the server', new InboxError('stopping', '', {status: 503}), false],
  ['500 of the server', new InboxError('internal', '', {status: 500}), false],
  ['a login page', new InboxError('intercepted', '', {status: 200}), false],
])) {
  test(`${name} is ${cut ? 'a cut' : 'not a cut'}`, () => {
    const hold = new HoldTime();
    assert.equal(hold.shorten(error, 25, 10_000), cut);
    assert.equal(hold.seconds, cut ? 8 : 25);
  });
}

for (const [asked, elapsed, want] of [[25, 60_000, 20], [25, 30_000, 20], [25, 9_990, 7], [25, 2_000, 1], [25, 1_000, 0], [25, 999, 25], [0, 9_000, 25], [5, 3_000, 2]]) {
  test(`a cut after ${elapsed} of ${asked} seconds: ${want} seconds`, () => {
    const hold = new HoldTime();
    assert.equal(hold.shorten(gatewayTimeout, asked, elapsed), want < 25);
    assert.equal(hold.seconds, want);
  });
}

test('a cut never lengthens the time', () => {
  const hold = new HoldTime();
  hold.shorten(gatewayTimeout, 25, 5_000);
  hold.shorten(gatewayTimeout, 25, 20_000);
  assert.equal(hold.seconds, 4);
});

test('complete holds double the time up to 25 seconds, also from 0', () => {
  const hold = new HoldTime();
  hold.shorten(gatewayTimeout, 25, 1_000);
  const seen = [];
  for (let i = 0; i < 7; i++) {
    seen.push(hold.seconds);
    complete(hold, 8);
  }
  assert.deepEqual(seen, [0, 1, 2, 4, 8, 16, 25]);
});

test('each cut doubles the number of complete holds before the time grows, up to a maximum', () => {
  const hold = new HoldTime();
  for (const required of [8, 16, 32, 64, 128, 256, 512, 512]) {
    hold.shorten(gatewayTimeout, hold.seconds, 10_000);
    complete(hold, required - 1);
    assert.equal(hold.seconds, 8, `after ${required - 1} complete holds`);
    complete(hold, 1);
    assert.equal(hold.seconds, 16, `after ${required} complete holds`);
  }
});

test('short responses and shorter requests are not complete holds', () => {
  const hold = new HoldTime();
  hold.shorten(gatewayTimeout, 25, 10_000);
  for (let i = 0; i < 100; i++) {
    hold.complete(8, 3_000);
    hold.complete(2, 2_000);
  }
  assert.equal(hold.seconds, 8);
});
